//! Models from where people share them: Hugging Face, the Ollama registry, any `https` address.
//!
//! A [`Fetcher`] first asks what there is ([`Fetcher::plan`]: which files, how large, and why these), then fetches it
//! ([`Fetcher::fetch`]): in parts over several connections, resumed where an earlier run was killed, and verified
//! before anything becomes visible. Nothing here reads the environment, and offline nothing opens a connection.
//!
//! ```no_run
//! use hub_fetch::{FetchOptions, Fetcher, Source};
//! use hub_base::CancelToken;
//!
//! let fetcher = Fetcher::new(FetchOptions::new("/var/lib/hub/models"));
//! let plan = fetcher.plan(&"hf:Qwen/Qwen3-0.6B-GGUF".parse::<Source>()?, &CancelToken::new())?;
//! println!("{} bytes: {}", plan.bytes(), plan.reason());
//! let model = fetcher.fetch(&plan, &|event| println!("{} of {}", event.done, event.total), &CancelToken::new())?;
//! println!("{}", model.path.display());
//! # Ok::<(), hub_fetch::Error>(())
//! ```

mod address;
mod blob;
mod choose;
mod digest;
mod error;
mod event;
mod find;
mod huggingface;
mod journal;
mod ollama;
mod options;
mod os;
mod owned;
mod parts;
mod plan;
mod source;
mod web;

pub use digest::Digest;
pub use error::{Error, Result};
pub use event::{Event, Sink, Stage};
pub use ollama::Extras as OllamaExtras;
pub use options::FetchOptions;
pub use owned::remove_owned;
pub use plan::{Fetched, Fetcher, Origin, Plan, PlannedFile};
pub use source::{InvalidSource, Pick, Source};
