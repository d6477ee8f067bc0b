use std::{
    io,
    path::{Path, PathBuf},
};

use hub_base::{ErrorKind, Size};

use crate::{Digest, InvalidSource};

/// What this crate's fallible functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a model was not fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was written names no source.
    #[error(transparent)]
    Source(#[from] InvalidSource),
    /// No connection may be opened, and the file is not here.
    #[error("{what} is not on this machine and HUB_OFFLINE is set: unset it, or {}", bring(place.as_deref()))]
    Offline {
        /// What would be needed.
        what: String,
        /// The file that is missing, or its folder where nobody knows the file's name; unknown of a bare request.
        place: Option<PathBuf>,
    },
    /// No cache on this machine has the model.
    #[error(
        "{what} is in no cache on this machine ({}): pull it{}",
        if places.is_empty() { "addresses have none".to_owned() } else { paths(places) },
        if there.is_empty() { String::new() } else { format!(", or take what is there: {}", there.join(", ")) }
    )]
    NotHere {
        /// What was looked for.
        what: String,
        /// Where.
        places: Vec<PathBuf>,
        /// Some of what is there instead.
        there: Vec<String>,
    },
    /// The registry knows no such thing.
    #[error("there is no {what} at {registry}: check the name{hint}")]
    NotFound {
        /// What was asked for.
        what: String,
        /// Who was asked.
        registry: String,
        /// What else may be the matter.
        hint: &'static str,
    },
    /// The registry does not let the caller have it.
    #[error("{what} needs permission: {next}")]
    Denied {
        /// What was asked for.
        what: String,
        /// What to do about it.
        next: String,
    },
    /// The server is overloaded, or has had enough of this caller.
    #[error("{host} answers {status} again and again: try again later")]
    Overloaded {
        /// The server.
        host: String,
        /// What it answered last.
        status: u16,
    },
    /// The server answers with an error.
    #[error("{url} answered {status}")]
    Status {
        /// What was asked.
        url: String,
        /// The status.
        status: u16,
    },
    /// The server cannot be reached, or the connection broke again and again.
    #[error("{host} cannot be reached: check the network and try again; what arrived is kept")]
    Network {
        /// The server.
        host: String,
        /// What went wrong last.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server's answer contradicts itself or the registry.
    #[error("{url} does not answer as it should: {reason}")]
    Answer {
        /// What was asked.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// What arrived is not what was announced.
    #[error(
        "{file} does not have the digest it should: {expected} was announced and {found} arrived; it was thrown away, \
         try again or take another source"
    )]
    Digest {
        /// The file.
        file: String,
        /// What was announced.
        expected: Digest,
        /// What arrived.
        found: Digest,
    },
    /// The disk has too little room.
    #[error("{} more are needed in {} and {} are free: make room", Size(*needed), folder.display(), Size(*free))]
    Space {
        /// Bytes that are still to come.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// Where they would go.
        folder: PathBuf,
    },
    /// A file cannot be written or read.
    #[error("cannot use {}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The repository holds weights only as pickle files.
    #[error(
        "{repo} holds its weights only as pickle files ({file}), which run code when they are read: choose a \
         repository with safetensors or GGUF files"
    )]
    Pickle {
        /// The repository.
        repo: String,
        /// One of the files.
        file: String,
    },
    /// The repository holds no weights that are read here.
    #[error("{repo} holds no GGUF and no safetensors file")]
    NoModel {
        /// The repository.
        repo: String,
    },
    /// The repository does not hold what was asked for.
    #[error("{repo} has no {asked}; it has {}", available.join(", "))]
    NoSuchFile {
        /// The repository.
        repo: String,
        /// The file or kind that was asked for.
        asked: String,
        /// What there is instead.
        available: Vec<String>,
    },
    /// The file needs a checksum.
    #[error("{url} says nothing of what it should be: give its checksum with `--sha256`")]
    NoChecksum {
        /// The address.
        url: String,
    },
    /// The caller stopped the work. What arrived is kept.
    #[error("cancelled; what arrived is kept, and the next pull goes on with it")]
    Cancelled,
}

/// Lists paths for people.
fn paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Says what to do about a file that is missing.
fn bring(place: Option<&Path>) -> String {
    place.map_or_else(
        || "copy the file here".to_owned(),
        |place| format!("copy the file to {}", place.display()),
    )
}

impl Error {
    /// Classifies the error for frontends.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Source(_) | Self::NoChecksum { .. } => ErrorKind::InvalidInput,
            Self::NotFound { .. } | Self::NotHere { .. } | Self::NoSuchFile { .. } | Self::NoModel { .. } => {
                ErrorKind::NotFound
            }
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Pickle { .. } => ErrorKind::Unsupported,
            Self::Overloaded { .. }
            | Self::Offline { .. }
            | Self::Status { .. }
            | Self::Network { .. }
            | Self::Answer { .. }
            | Self::Space { .. }
            | Self::Disk { .. } => ErrorKind::Unavailable,
            Self::Digest { .. } => ErrorKind::Corrupt,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    /// Makes the error of a file that cannot be used.
    pub(crate) fn disk(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Disk { path, source }
    }
}
