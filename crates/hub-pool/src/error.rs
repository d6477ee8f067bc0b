use hub_base::ErrorKind;

/// Why a trace cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A line of a trace is not what it should be.
    #[error("line {line} of the trace: {reason}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Exact answers are computed for a few models.
    #[error("the best possible is computed for at most {most} models, and the trace has {found}")]
    TooManyModels {
        /// How many the trace has.
        found: usize,
        /// How many it may have.
        most: usize,
    },
}

impl Error {
    /// Classifies the error for frontends.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Line { .. } => ErrorKind::InvalidInput,
            Self::TooManyModels { .. } => ErrorKind::Unsupported,
        }
    }
}
