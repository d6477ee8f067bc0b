use hub_base::{ModelId, Task};
use hub_models::{EmbeddingModel, LoadOptions, Memory, Reranker, TextModel};
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
#[non_exhaustive]
pub struct LoadedModel {
    /// Its name.
    pub name: ModelId,
    /// What it can be asked to do.
    pub task: Task,
    /// Bytes of its weights.
    pub weights_bytes: u64,
    /// Bytes that running sequences hold.
    pub state_bytes: u64,
    /// Both together.
    pub memory_bytes: u64,
    /// The longest sequence it serves, in tokens.
    pub context_tokens: usize,
    /// Requests being answered.
    pub running: usize,
    /// Requests waiting for a place.
    pub waiting: usize,
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
        let (memory, context_tokens, running, waiting) = match self {
            Self::Text(model) => {
                let load = model.load();
                (model.memory(), model.context_tokens(), load.running, load.waiting)
            }
            Self::Embedding(model) => (model.memory(), model.info().context_tokens, 0, 0),
            Self::Reranker(model) => (model.memory(), model.info().context_tokens, 0, 0),
        };
        let Memory { weights_bytes, state_bytes, .. } = memory;
        LoadedModel {
            name: name.clone(),
            task: self.task(),
            weights_bytes,
            state_bytes,
            memory_bytes: weights_bytes + state_bytes,
            context_tokens,
            running,
            waiting,
        }
    }
}
