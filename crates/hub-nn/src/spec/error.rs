use hub_base::ErrorKind;

/// Why a specification cannot be run, or does not fit the files it was made for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A number of the configuration is zero, absurd, or contradicts another.
    #[error("the configuration is inconsistent: {what} ({details})")]
    Inconsistent {
        /// The rule that is broken.
        what: &'static str,
        /// The numbers that break it.
        details: String,
    },
    /// A tensor that the family needs is not in the files.
    #[error(
        "tensor `{name}` is missing; the files are incomplete or belong to another kind of model than `{family}`"
    )]
    MissingTensor {
        /// Its name.
        name: String,
        /// The family that needs it.
        family: &'static str,
    },
    /// A tensor of the files has another shape than the configuration says.
    #[error("tensor `{name}` has shape {found:?} where the configuration asks for {expected}")]
    Shape {
        /// Its name.
        name: String,
        /// What the configuration asks for.
        expected: String,
        /// What the files hold.
        found: Vec<usize>,
    },
    /// The parts of a tensor that are used are not all of it.
    #[error("tensor `{name}` has {found} rows, and the configuration uses {used} of them")]
    Parts {
        /// Its name.
        name: String,
        /// How many rows the configuration uses.
        used: usize,
        /// How many it has.
        found: usize,
    },
    /// A tensor of the files is neither used nor listed as left out.
    #[error(
        "tensor `{name}` is not known to the family `{family}`; running without it would give wrong answers"
    )]
    UnknownTensor {
        /// Its name.
        name: String,
        /// The family that does not know it.
        family: &'static str,
    },
}

impl SpecError {
    /// Classifies the error for frontends.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Inconsistent { .. }
            | Self::MissingTensor { .. }
            | Self::Shape { .. }
            | Self::Parts { .. } => ErrorKind::Corrupt,
            Self::UnknownTensor { .. } => ErrorKind::Unsupported,
        }
    }
}
