//! The whole hub behind one type: opens every part from one configuration.
//!
//! ```
//! use hub::{ChatRequest, Hub, HubConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
//! # let home = tempfile::tempdir()?;
//! # let home = home.path();
//! let hub = Hub::open(HubConfig::default(), home).await?;
//! let reply = hub.chat(ChatRequest::user("hub-guide", "How do I list my models?")).await?;
//! let model = reply.model().clone();
//! println!("{model} answers: {}", reply.text().await?);
//! hub.shutdown(std::time::Duration::from_secs(5)).await;
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! Everything is asynchronous and needs a tokio runtime of several threads; nothing computes on its threads. Nothing
//! reads the environment: a program does, and hands the text to [`config::resolve`].
//!
//! Features, all off by default: `fetch` pulls models from other machines (without it nothing here opens a
//! connection); `cuda` and `metal` run models on graphics cards through candle; `schema` adds
//! JSON Schemas of the types that are serialised.

mod aliases;
pub mod bench;
mod caller;
mod catalog;
mod chat;
pub mod config;
pub mod doctor;
mod embed;
mod error;
mod home;
mod meter;
mod open;
mod os;
mod pull;
mod quantize;
mod registry;
mod rerank;

pub use aliases::Alias;
pub use caller::{Caller, StatusTable, now_ms};
pub use catalog::{Installed, ModelDetails, ModelFile, ModelOrigin, Removed, Speed};
pub use chat::{ChatReply, ChatRequest};
pub use config::HubConfig;
pub use embed::{EmbedReply, EmbedRequest};
pub use error::{Error, Result};
pub use home::{Home, HomeLock};
pub use open::Hub;
pub use pull::{PullEvent, PullRequest, PullSink, PullStage};
pub use quantize::{Again, Existing, Mix, QuantizeChoice, QuantizeChoices, QuantizeRequest, Quantized};
pub use registry::{LoadedModel, LoadingModel};
pub use rerank::{RerankReply, RerankRequest};

pub use hub_base as base;
pub use hub_models as models;
pub use hub_pool as pool;
pub use hub_router as router;
pub use hub_store as store;
