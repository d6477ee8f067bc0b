use std::{io, path::PathBuf};

use hub_base::ErrorKind;

/// What can go wrong while a tokenizer is opened or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not there.
    #[error("no tokenizer at {}; a model needs the tokenizer.json or tekken.json it came with", path.display())]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// What was read is no tokenizer, or contradicts itself.
    #[error("{file} is damaged: {reason}")]
    Corrupt {
        /// What was read.
        file: String,
        /// What does not fit.
        reason: String,
    },
    /// The file carries no tokenizer.
    #[error("the GGUF file has no `{key}`, so text cannot be turned into tokens")]
    MissingKey {
        /// The key that is missing.
        key: String,
    },
    /// The tokenizer is of a kind that is not known here.
    #[error("the GGUF file asks for tokenizer model `{model}`, which is not supported")]
    UnknownModel {
        /// What the file calls it.
        model: String,
    },
    /// The way in which text is cut into words is not known here.
    #[error("the GGUF file asks for pre-tokenizer `{pre}`, which is not supported")]
    UnknownPreTokenizer {
        /// What the file calls it.
        pre: String,
    },
    /// GGUF files cannot describe the tokenizer.
    #[error("its tokenizer cannot be described in a GGUF file: {reason}")]
    Unwritable {
        /// Why not.
        reason: String,
    },
    /// A text cannot be turned into tokens.
    #[error("the tokenizer cannot encode this text of {len_bytes} bytes: {reason}")]
    Encode {
        /// How long the text is.
        len_bytes: usize,
        /// Why not.
        reason: String,
    },
}

impl Error {
    /// Classifies the error for frontends.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Read { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            },
            Self::Corrupt { .. } | Self::MissingKey { .. } => ErrorKind::Corrupt,
            Self::UnknownModel { .. } | Self::Unwritable { .. } | Self::UnknownPreTokenizer { .. } => {
                ErrorKind::Unsupported
            }
            Self::Encode { .. } => ErrorKind::InvalidInput,
        }
    }
}
