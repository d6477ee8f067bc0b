use hub_base::ErrorKind;

/// Why a configuration was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FamilyError {
    /// No family knows this kind of model.
    #[error(
        "no family knows the architecture `{name}`; the nearest name that is known is `{nearest}`{}. What its layers are \
         like and where its tensors lie has to be said by a family of its own: docs/add-a-family.md shows how",
        if missing.is_empty() { String::new() } else { format!(", and by its shape it is none either: {missing}") }
    )]
    UnknownArchitecture {
        /// What the files call it.
        name: String,
        /// What is known under the name most like it.
        nearest: String,
        /// What the shape of a plain model lacks, or has beside it.
        missing: String,
    },
    /// The files do not say what kind of model they hold.
    #[error("the files do not say what kind of model they hold: `{key}` is missing")]
    NoArchitecture {
        /// Where it should be said.
        key: &'static str,
    },
    /// A configuration is a number, a list or nothing.
    #[error("the configuration is {value}, and should be an object with keys and values")]
    NoObject {
        /// What it is.
        value: String,
    },
    /// A key that the family needs is missing.
    #[error("the configuration lacks `{key}`, which the family `{family}` needs")]
    MissingKey {
        /// The key.
        key: String,
        /// The family.
        family: &'static str,
    },
    /// A value has no meaning, or contradicts another.
    #[error("`{key}` is {value} in the configuration, where {expected} is needed")]
    BadValue {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What is needed.
        expected: String,
    },
    /// A value that means something, and nothing that is implemented.
    #[error("`{key}` is {value} in the configuration, and only {supported} is supported")]
    Unsupported {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What is supported.
        supported: String,
    },
    /// A key that the family does not know.
    #[error(
        "the family `{family}` does not know `{key}` of the configuration; ignoring it could give wrong answers. If it changes \
         nothing about this model, remove it"
    )]
    UnknownKey {
        /// The key.
        key: String,
        /// The family.
        family: &'static str,
    },
}

impl FamilyError {
    /// Classifies the error for frontends.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownArchitecture { .. } | Self::Unsupported { .. } | Self::UnknownKey { .. } => {
                ErrorKind::Unsupported
            }
            Self::NoObject { .. }
            | Self::NoArchitecture { .. }
            | Self::MissingKey { .. }
            | Self::BadValue { .. } => ErrorKind::Corrupt,
        }
    }
}
