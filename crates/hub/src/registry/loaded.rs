use std::time::Instant;

use hub_base::{ModelId, Task};
use hub_models::{EmbeddingModel, Load, LoadOptions, Reranker, TextModel};
use serde::Serialize;

use crate::{Error, Installed, Result, registry::tally::Figures};

/// A model in memory, of any kind. Clones share it.
#[derive(Clone, Debug)]
pub(crate) enum Loaded {
    Text(TextModel),
    Embedding(EmbeddingModel),
    Reranker(Reranker),
}

/// A model in memory, as it is listed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct LoadedModel {
    /// Its name.
    pub name: ModelId,
    /// What it can be asked to do.
    pub task: Task,
    /// Bytes of its weights, of what running sequences keep, of what steps compute in, and of its vocabulary.
    pub memory_bytes: u64,
    /// The longest sequence it serves, in tokens.
    pub context_tokens: usize,
    /// Sequences that share its steps.
    pub running: u64,
    /// Requests that wait to begin.
    pub waiting: u64,
    /// Requests answered since it was loaded.
    pub requests: u64,
    /// Tokens of prompts read in a second, as one request sees it; `None` before the first, and for encoders.
    pub prefill_tokens_per_s: Option<f64>,
    /// Tokens of answers written in a second, as one request sees it.
    pub decode_tokens_per_s: Option<f64>,
    /// When it leaves if nobody uses it; `None` if it is used, or stays until its memory is needed.
    pub expires_in_ms: Option<u64>,
    /// Its counters since it was loaded; an encoder has none but its weights.
    pub load: Load,
}

impl Loaded {
    /// Reads a model's files into memory. Blocks for as long as that takes.
    pub(super) fn open(installed: &Installed, options: LoadOptions) -> Result<Self> {
        if !installed.adapters.is_empty() {
            return Err(Error::Adapter { origin: installed.source.clone() });
        }
        let source = installed.files_source();
        let options = options.preset(installed.preset.clone());
        Ok(match installed.task {
            Task::Chat => Self::Text(TextModel::open(source, options)?),
            Task::Embed => Self::Embedding(EmbeddingModel::open(source, options)?),
            Task::Rerank => Self::Reranker(Reranker::open(source, options)?),
        })
    }

    /// Returns what it can be asked to do.
    pub(super) fn task(&self) -> Task {
        match self {
            Self::Text(_) => Task::Chat,
            Self::Embedding(_) => Task::Embed,
            Self::Reranker(_) => Task::Rerank,
        }
    }

    pub(super) fn describe(&self, name: &ModelId) -> LoadedModel {
        let load = match self {
            Self::Text(model) => model.load(),
            Self::Embedding(_) | Self::Reranker(_) => idle(self.weight_bytes()),
        };
        LoadedModel {
            name: name.clone(),
            task: self.task(),
            memory_bytes: load.weight_bytes + load.state_bytes + self.work_bytes(),
            context_tokens: self.context_tokens(),
            running: load.running,
            waiting: load.waiting,
            requests: 0,
            prefill_tokens_per_s: None,
            decode_tokens_per_s: None,
            expires_in_ms: None,
            load,
        }
    }

    /// Returns the longest sequence it serves, in tokens.
    pub(super) fn context_tokens(&self) -> usize {
        match self {
            Self::Text(model) => model.context_tokens(),
            Self::Embedding(model) => model.info().context_tokens,
            Self::Reranker(model) => model.info().context_tokens,
        }
    }

    /// Returns what it takes beside its weights and what sequences keep.
    fn work_bytes(&self) -> u64 {
        match self {
            Self::Text(model) => model.info().work_bytes(),
            Self::Embedding(model) => model.info().work_bytes(),
            Self::Reranker(model) => model.info().work_bytes(),
        }
    }

    pub(super) fn weight_bytes(&self) -> u64 {
        match self {
            Self::Text(model) => model.load().weight_bytes,
            Self::Embedding(model) => model.weight_bytes(),
            Self::Reranker(model) => model.weight_bytes(),
        }
    }
}

impl LoadedModel {
    /// Adds what the registry knows of it.
    pub(super) fn with(mut self, figures: Figures, expires_at: Option<Instant>) -> Self {
        self.requests = figures.requests;
        self.prefill_tokens_per_s = figures.prefill_tokens_per_s;
        self.decode_tokens_per_s = figures.decode_tokens_per_s;
        let left = expires_at.map(|at| at.saturating_duration_since(Instant::now()).as_millis());
        self.expires_in_ms = left.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX));
        self
    }
}

/// An encoder keeps nothing between steps.
fn idle(weight_bytes: u64) -> Load {
    let mut load = Load::default();
    load.weight_bytes = weight_bytes;
    load
}
