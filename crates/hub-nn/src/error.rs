use hub_base::{ErrorKind, OverBudget};

use crate::{spec::SpecError, weights};

/// What can go wrong while a model is loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device is unknown, or not to be had in this build or on this machine.
    #[error("no device `{name}`: {reason}")]
    Device {
        /// The name that was asked for.
        name: String,
        /// Why there is none.
        reason: String,
    },
    /// The files cannot be read.
    #[error(transparent)]
    Weights(#[from] weights::Error),
    /// The specification contradicts itself or the files.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A tensor is stored in a way that cannot be computed with.
    #[error("tensor `{name}` is stored as {kind}, which cannot be a weight")]
    WeightKind {
        /// Its name.
        name: String,
        /// How it is stored.
        kind: &'static str,
    },
    /// The memory budget does not allow it.
    #[error("the memory budget is too small for {what}")]
    Memory {
        /// What the memory is for.
        what: &'static str,
        /// The numbers.
        #[source]
        source: OverBudget,
    },
    /// A step was called with rows that do not fit the model or the state.
    #[error("rows do not fit the model: {reason}")]
    Rows {
        /// What does not fit.
        reason: String,
    },
    /// The loading was stopped.
    #[error("the loading was cancelled")]
    Cancelled,
    /// Instructions were chosen that the processor lacks.
    #[error("this processor has no {isa}; choose {best}, or leave the choice to the hub (auto)")]
    Instructions {
        /// What was chosen.
        isa: hub_kernels::Isa,
        /// The best it has.
        best: hub_kernels::Isa,
    },
    /// The operating system gives no threads to compute with.
    #[error("cannot start the threads that compute")]
    Threads {
        /// What it says.
        #[source]
        source: std::io::Error,
    },
    /// A matrix cannot be packed.
    #[error(transparent)]
    Packed(#[from] hub_kernels::Error),
    /// The arithmetic itself failed.
    #[error("arithmetic failed on {device}")]
    Compute {
        /// The device's name.
        device: String,
        /// What the backend says.
        #[source]
        source: candle_core::Error,
    },
}

impl Error {
    /// Classifies the error for frontends.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Device { .. } => ErrorKind::Unsupported,
            Self::Weights(error) => error.kind(),
            Self::Spec(error) => error.kind(),
            Self::WeightKind { .. } | Self::Instructions { .. } => ErrorKind::Unsupported,
            Self::Memory { .. } | Self::Threads { .. } => ErrorKind::Unavailable,
            Self::Packed(hub_kernels::Error::Memory { .. }) => ErrorKind::Unavailable,
            Self::Packed(_) => ErrorKind::Corrupt,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Rows { .. } => ErrorKind::InvalidInput,
            Self::Compute { .. } => ErrorKind::Internal,
        }
    }
}
