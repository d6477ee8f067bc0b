use hub_base::{ModelId, Task};
use hub_models::{EmbeddingModel, Load, LoadOptions, Reranker, TextModel};
use serde::Serialize;

use crate::{Installed, Result};

/// A model in memory, of any kind. Clones share it.
#[derive(Clone, Debug)]
pub(crate) enum Loaded {
    Text(TextModel),
    Embedding(EmbeddingModel),
    Reranker(Reranker),
}

/// A model in memory, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct LoadedModel {
    /// Its name.
    pub name: ModelId,
    /// What it can be asked to do.
    pub task: Task,
    /// Bytes of its weights, and of what running sequences keep.
    pub memory_bytes: u64,
    /// The longest sequence it serves, in tokens.
    pub context_tokens: usize,
    /// Sequences that share its steps.
    pub running: u64,
    /// Requests that wait to begin.
    pub waiting: u64,
    /// Its counters since it was loaded; an encoder has none but its weights.
    pub load: Load,
}

impl Loaded {
    /// Reads a model's files into memory. Blocks for as long as that takes.
    pub(super) fn open(installed: &Installed, options: LoadOptions) -> Result<Self> {
        let source = installed.source();
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
        let (load, context_tokens) = match self {
            Self::Text(model) => (model.load(), model.context_tokens()),
            Self::Embedding(model) => (idle(model.weight_bytes()), model.info().context_tokens),
            Self::Reranker(model) => (idle(model.weight_bytes()), model.info().context_tokens),
        };
        LoadedModel {
            name: name.clone(),
            task: self.task(),
            memory_bytes: load.weight_bytes + load.state_bytes,
            context_tokens,
            running: load.running,
            waiting: load.waiting,
            load,
        }
    }
}

/// An encoder keeps nothing between steps.
fn idle(weight_bytes: u64) -> Load {
    let mut load = Load::default();
    load.weight_bytes = weight_bytes;
    load
}
