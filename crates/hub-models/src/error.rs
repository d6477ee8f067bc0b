use std::{io, path::PathBuf, sync::Arc};

use hub_base::{ErrorKind, OverBudget, Task};
use hub_nn::{spec::SpecError, tokens, weights};

use crate::{
    chat::TemplateError,
    family::FamilyError,
    sample::{InvalidSampling, SampleError},
};

/// What can go wrong with a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file beside the weights cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file beside the weights is not what it should be.
    #[error("{} is damaged: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: serde_json::Error,
    },
    /// A file without which the model cannot be used is missing.
    #[error("{} is missing: copy it from where the model came from", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The weights cannot be read.
    #[error(transparent)]
    Weights(#[from] weights::Error),
    /// The configuration belongs to no family, or to one and not as it should.
    #[error(transparent)]
    Family(#[from] FamilyError),
    /// The specification does not fit the files.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A key of the configuration contradicts another or the tensors.
    #[error("`{field}` is {value} in the configuration{fits}: {contradicts}")]
    Contradiction {
        /// The key.
        field: String,
        /// What it says.
        value: String,
        /// What it would have to say of these tensors, in words; empty if that is not known.
        fits: String,
        /// What does not fit.
        contradicts: Box<SpecError>,
    },
    /// The tokenizer cannot be read, or cannot read a text.
    #[error(transparent)]
    Tokens(#[from] tokens::Error),
    /// The chat template cannot be read, or refused a conversation.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Loading or running failed in the executor.
    #[error(transparent)]
    Executor(hub_nn::Error),
    /// The memory budget does not allow it.
    #[error("not enough memory for {what}: {source}")]
    Memory {
        /// What the memory is for.
        what: &'static str,
        /// The numbers.
        source: OverBudget,
    },
    /// The model does something else.
    #[error("this model can {} and not {asked}", can.as_str())]
    WrongTask {
        /// What was asked of it.
        asked: Task,
        /// What it can do.
        can: Task,
    },
    /// A conversation for a model without a chat template.
    #[error("this model has no chat template: it continues texts, and answers no conversation")]
    NoTemplate,
    /// Nothing to compute.
    #[error("{what} is empty")]
    Empty {
        /// What is empty.
        what: &'static str,
    },
    /// More tokens than the context holds.
    #[error(
        "the maximum context length is {limit} tokens and {asked} are asked for: shorten the prompt or ask for fewer \
         tokens"
    )]
    TooLarge {
        /// Tokens of the prompt, and of the answer: as many as were asked for, at least one.
        asked: usize,
        /// The longest sequence.
        limit: usize,
    },
    /// An option has no meaning.
    #[error("`{name}` {reason}")]
    InvalidOption {
        /// The option.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A sampling option has no meaning.
    #[error(transparent)]
    Sampling(#[from] InvalidSampling),
    /// No token could be drawn: the model's numbers are broken.
    #[error("the model computed no usable numbers")]
    Sample(#[from] SampleError),
    /// The queue in front of the model is full.
    #[error("{waiting} requests are waiting already: try again in a moment")]
    Busy {
        /// How many wait.
        waiting: usize,
    },
    /// A step failed; the request ends, the model lives.
    #[error("a step failed")]
    Step {
        /// Why.
        #[source]
        source: Arc<hub_nn::Error>,
    },
    /// A step panicked; its requests end, and the model is loaded again.
    #[error("the model failed at this request and is being loaded again: try again in a moment")]
    ModelFailed,
    /// The model failed and could not be loaded again.
    #[error("the model failed and could not be loaded again")]
    Reload {
        /// Why.
        #[source]
        source: Arc<Error>,
    },
    /// The answer was cut off: its reader took nothing for too long, or the model's thread ended.
    #[error("the answer was cut off: it was not read for too long, or the model was stopped; ask again")]
    Interrupted,
    /// A folder of a family that is not written as GGUF.
    #[error(
        "this folder of the family {family} cannot be written as GGUF, since {reason}: take a GGUF file of the model in \
         F16 or BF16, or convert it with llama.cpp's convert_hf_to_gguf.py"
    )]
    NoConversion {
        /// The family.
        family: &'static str,
        /// Why not.
        reason: String,
    },
    /// A file of the model asks for something that is not supported.
    #[error("`{key}` of the model's {file} is {value}, which is not supported")]
    ModelFile {
        /// The file.
        file: &'static str,
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
    /// The caller stopped the work.
    #[error("cancelled")]
    Cancelled,
    /// The model's thread has ended.
    #[error("the model is no longer loaded: try again")]
    ModelGone,
    /// The operating system starts no thread.
    #[error("cannot start a thread for the model")]
    Thread {
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Classifies the error for frontends.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Read { .. } => ErrorKind::Unavailable,
            Self::Json { .. } | Self::Missing { .. } => ErrorKind::Corrupt,
            Self::Weights(error) => error.kind(),
            Self::Family(error) => error.kind(),
            Self::Spec(error) => error.kind(),
            Self::Contradiction { contradicts, .. } => contradicts.kind(),
            Self::Tokens(error) => error.kind(),
            Self::Template(error) => error.kind(),
            Self::Executor(error) => error.kind(),
            Self::Memory { .. } => ErrorKind::Unavailable,
            Self::WrongTask { .. } | Self::NoTemplate | Self::NoConversion { .. } => ErrorKind::Unsupported,
            Self::Empty { .. } | Self::InvalidOption { .. } | Self::Sampling(_) => ErrorKind::InvalidInput,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Sample(error) => error.kind(),
            Self::Busy { .. } => ErrorKind::Busy,
            Self::Step { source } => source.kind(),
            Self::Reload { source } => source.kind(),
            Self::Cancelled => ErrorKind::Cancelled,
            Self::ModelFile { .. } => ErrorKind::Unsupported,
            Self::ModelFailed | Self::ModelGone | Self::Interrupted => ErrorKind::Unavailable,
            Self::Thread { .. } => ErrorKind::Unavailable,
        }
    }
}

impl From<hub_nn::Error> for Error {
    /// What every caller tells apart keeps its own variant, wherever it happened.
    fn from(error: hub_nn::Error) -> Self {
        match error {
            hub_nn::Error::Weights(error) => Self::Weights(error),
            hub_nn::Error::Spec(error) => Self::Spec(error),
            hub_nn::Error::Memory { what, source } => Self::Memory { what, source },
            error => Self::Executor(error),
        }
    }
}
