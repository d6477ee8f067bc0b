//! Models from where people share them: Hugging Face, the Ollama registry, any `https` address.
//!
//! A [`Fetcher`] first asks what there is ([`Fetcher::plan`]: which files, how large, and why these), then fetches it
//! ([`Fetcher::fetch`]): in parts over several connections, resumed where an earlier run was killed, and verified
//! before anything becomes visible. Nothing here reads the environment, and offline nothing opens a connection.
//!
//! ```
//! use hub_base::CancelToken;
//! use hub_fetch::{FetchOptions, Fetcher, Source};
//!
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let options = FetchOptions::new(folder);
//! # let registry = hub_fixtures::Registry::start();
//! # let files = [("Qwen3-0.6B-Q8_0.gguf", vec![7; 2_000])];
//! # registry.repo("Qwen/Qwen3-0.6B-GGUF", &"0".repeat(40), &files, hub_fixtures::Form::Full);
//! # let mut options = options;
//! # options.hf_endpoint = registry.url();
//! let fetcher = Fetcher::new(options);
//! let plan = fetcher.plan(&"hf:Qwen/Qwen3-0.6B-GGUF".parse::<Source>()?, &CancelToken::new())?;
//! println!("{} bytes: {}", plan.bytes(), plan.reason());
//! let model = fetcher.fetch(&plan, &|event| println!("{} of {}", event.done, event.total), &CancelToken::new())?;
//! assert!(model.path.starts_with(folder));
//! # Ok::<(), Box<dyn std::error::Error>>(())
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
