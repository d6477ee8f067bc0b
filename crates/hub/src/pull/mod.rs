//! Models from where people share them.

#[cfg(not(feature = "fetch"))]
mod disabled;
#[cfg(feature = "fetch")]
mod enabled;
#[cfg(feature = "fetch")]
mod ollama;

#[cfg(not(feature = "fetch"))]
pub(crate) use disabled::Puller;
#[cfg(feature = "fetch")]
pub(crate) use enabled::Puller;

use std::{fmt, sync::Arc};

use hub_base::{CancelToken, ModelId, ProgressSink};
use serde::Serialize;

use crate::{Hub, Installed, Result};

/// A model to fetch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PullRequest {
    /// `hf:ORG/REPO[:KIND]`, `hf:ORG/REPO/file.gguf`, `ollama:NAME[:TAG]`, or an address with a checksum.
    pub source: String,
    /// What the bytes at an address must hash to.
    pub sha256: Option<String>,
    /// What to call the model; after its source if `None`.
    pub name: Option<ModelId>,
    /// Where progress is sent.
    pub events: PullSink,
    /// Stops the pull. What arrived is kept, and the next one goes on with it.
    pub cancel: CancelToken,
}

/// How far a pull has come.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PullEvent {
    /// What will be fetched.
    Plan {
        /// The files, by name.
        files: Vec<String>,
        /// Bytes of all files.
        bytes: u64,
        /// Bytes that are not here yet.
        missing_bytes: u64,
        /// Why these files.
        reason: String,
    },
    /// How far a file has come.
    File {
        /// Its name.
        file: String,
        /// What is done with it.
        stage: PullStage,
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
        /// Bytes a second during the last seconds; 0 before that is known.
        bytes_per_s: f64,
    },
}

/// What is done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PullStage {
    /// Another process fetches it.
    Waiting,
    /// Its bytes come in.
    Fetching,
    /// Its digest is computed.
    Verifying,
    /// It is there.
    Done,
}

/// Where the events of a pull are sent; the default goes nowhere.
#[derive(Clone, Default)]
pub struct PullSink(Option<Arc<dyn Fn(PullEvent) + Send + Sync>>);

impl PullSink {
    /// Sends every event to `sink`, which is called from several threads and must return quickly.
    pub fn new(sink: impl Fn(PullEvent) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(sink)))
    }

    #[cfg(feature = "fetch")]
    fn send(&self, event: PullEvent) {
        if let Some(sink) = &self.0 {
            sink(event);
        }
    }
}

impl fmt::Debug for PullSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "PullSink(..)" } else { "PullSink(none)" })
    }
}

impl PullRequest {
    /// Fetches what `source` names, under its own name.
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            sha256: None,
            name: None,
            events: PullSink::default(),
            cancel: CancelToken::new(),
        }
    }

    /// Checks what can be checked without asking anybody.
    ///
    /// # Errors
    /// [`Error::Fetch`](crate::Error::Fetch) if `source` names none, [`Error::NoDigest`](crate::Error::NoDigest), or
    /// [`Error::NotBuilt`](crate::Error::NotBuilt).
    pub fn check(&self) -> Result<()> {
        Puller::check(&self.source, self.sha256.clone())
    }
}

impl Hub {
    /// Fetches a model and makes it usable. One that is here already is found, and nothing is fetched again; one that
    /// has changed where it came from takes the place of the older.
    ///
    /// # Errors
    /// [`Error::Fetch`](crate::Error::Fetch) for what the network, the registry or the disk failed of;
    /// [`Error::NotBuilt`](crate::Error::NotBuilt) in a build without the feature `fetch`; otherwise as
    /// [`Hub::import`].
    pub async fn pull(&self, request: PullRequest) -> Result<Installed> {
        self.puller().pull(self, request).await
    }

    /// Makes a model usable that Hugging Face's programs or Ollama have fetched: `hf:ORG/REPO`, `ollama:NAME`, as for
    /// a pull. It stays where it is, and no connection is opened.
    ///
    /// # Errors
    /// [`Error::Fetch`](crate::Error::Fetch) if it is in no cache, with what is there; otherwise as [`Hub::import`].
    pub async fn import_cached(
        &self,
        source: &str,
        name: Option<ModelId>,
        progress: ProgressSink,
    ) -> Result<Installed> {
        self.puller().import(self, source, name, progress).await
    }
}
