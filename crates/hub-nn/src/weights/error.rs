use std::{io, ops::Range, path::PathBuf};

use hub_base::ErrorKind;

use super::Mix;

/// What can go wrong while weights are opened, read, converted or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing is there.
    #[error("no weights at {}: no such file or folder", path.display())]
    NotFound {
        /// Where weights were looked for.
        path: PathBuf,
    },
    /// The folder is there and holds nothing that can be read.
    #[error("folder {} holds neither model.safetensors, consolidated.safetensors, the index of either in parts nor one .gguf file", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds several models.
    #[error("folder {} holds several .gguf files ({}); name one of them", path.display(), names.join(", "))]
    Ambiguous {
        /// The folder.
        path: PathBuf,
        /// What it holds.
        names: Vec<String>,
    },
    /// The weights are a Python pickle, which runs code of its author when it is opened.
    #[error(
        "{} is a pickle: opening one runs whatever code its author put in; use the model's safetensors or GGUF files",
        path.display()
    )]
    Pickle {
        /// The file.
        path: PathBuf,
    },
    /// The file is neither of the formats.
    #[error("{file} is neither safetensors nor GGUF")]
    UnknownFormat {
        /// The file.
        file: String,
    },
    /// The file is of a known format, in a variant that is not read.
    #[error("{file} is {what}; {instead}")]
    Unsupported {
        /// The file.
        file: String,
        /// The variant.
        what: String,
        /// What to do next.
        instead: &'static str,
    },
    /// A tensor is stored in a way that is not read.
    #[error("tensor `{name}` of {file} is stored as {dtype}, which is not supported")]
    UnsupportedTensor {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
        /// How it is stored, as the file says it.
        dtype: String,
    },
    /// The file cannot be read.
    #[error("cannot read {file}")]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file contradicts its format or itself.
    #[error("{file} is damaged: {reason}")]
    Corrupt {
        /// The file.
        file: String,
        /// What does not fit, with names and offsets.
        reason: String,
    },
    /// A tensor was asked for that the files do not hold.
    #[error("{file} holds no tensor `{name}`")]
    Missing {
        /// The file or folder.
        file: String,
        /// The tensor.
        name: String,
    },
    /// Rows were asked for that the tensor does not have.
    #[error("tensor `{name}` has {rows} rows; rows {}..{} were asked for", asked.start, asked.end)]
    Rows {
        /// The tensor.
        name: String,
        /// How many rows it has.
        rows: usize,
        /// The rows that were asked for.
        asked: Range<usize>,
    },
    /// A tensor cannot be turned into another kind.
    #[error("cannot convert a tensor of shape {shape:?} from {from} to {to}: {reason}")]
    Convert {
        /// Its shape.
        shape: Vec<usize>,
        /// How it is stored.
        from: &'static str,
        /// How it should be stored.
        to: &'static str,
        /// Why not.
        reason: String,
    },
    /// A file cannot be written.
    #[error("cannot write the GGUF file")]
    Write {
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// What should be written does not make a file.
    #[error("cannot write tensor `{name}`: {reason}")]
    Unwritable {
        /// The tensor.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A file cannot be written to its place.
    #[error("cannot write {}", path.display())]
    Save {
        /// The place.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Something is at the place of a file that should be written.
    #[error("{} is there already, and stays as it is: name another place, or have it overwritten", path.display())]
    Exists {
        /// The place.
        path: PathBuf,
    },
    /// What is at the place of a file is not overwritten, whoever says so.
    #[error("{} is there, and is no GGUF file: name another place", path.display())]
    NotReplaced {
        /// The place.
        path: PathBuf,
    },
    /// A file should be written over the one it is made of.
    #[error("{} is what the weights are read from: name another place", path.display())]
    OwnSource {
        /// The place.
        path: PathBuf,
    },
    /// Weights that have been rounded should be rounded again.
    #[error(
        "tensor `{name}` is {kind} already, and rounding it again would lose a second time: take the model's F16, BF16 or \
         F32 files, or have it quantized again"
    )]
    Quantized {
        /// The first such tensor.
        name: String,
        /// How it is stored.
        kind: &'static str,
    },
    /// No mix of kinds has this name.
    #[error("{name:?} is no kind to quantize to: use one of {}", Mix::ALL.map(Mix::as_str).join(", "))]
    NoMix {
        /// What was asked for.
        name: String,
    },
    /// The work was stopped.
    #[error("stopped; nothing was written")]
    Cancelled,
}

impl Error {
    /// Classifies the error for frontends.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::Empty { .. } | Self::Missing { .. } => ErrorKind::NotFound,
            Self::Ambiguous { .. }
            | Self::Rows { .. }
            | Self::Convert { .. }
            | Self::Unwritable { .. }
            | Self::Exists { .. }
            | Self::NotReplaced { .. }
            | Self::OwnSource { .. }
            | Self::Quantized { .. }
            | Self::NoMix { .. } => ErrorKind::InvalidInput,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Pickle { .. }
            | Self::UnknownFormat { .. }
            | Self::Unsupported { .. }
            | Self::UnsupportedTensor { .. } => ErrorKind::Unsupported,
            Self::Read { source, .. } | Self::Write { source } | Self::Save { source, .. } => {
                match source.kind() {
                    io::ErrorKind::NotFound => ErrorKind::NotFound,
                    io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                    io::ErrorKind::UnexpectedEof => ErrorKind::Corrupt,
                    _ => ErrorKind::Unavailable,
                }
            }
            Self::Corrupt { .. } => ErrorKind::Corrupt,
        }
    }
}
