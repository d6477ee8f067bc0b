use std::{io, path::PathBuf};

use hub_base::{ErrorKind, InvalidName, ModelId, OverBudget, Size, Task};

use crate::config::ConfigError;

/// What this crate's fallible functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in the hub: one variant a part, and what only the whole can get wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A model cannot be loaded or does not answer.
    #[error(transparent)]
    Models(#[from] hub_models::Error),
    /// No device is to be had.
    #[error(transparent)]
    Device(#[from] hub_nn::Error),
    /// No model was chosen.
    #[error(transparent)]
    Router(#[from] hub_router::Error),
    /// A model cannot be fetched.
    #[cfg(feature = "fetch")]
    #[error(transparent)]
    Fetch(Box<hub_fetch::Error>),
    /// A model that consists of another and of an adapter.
    #[error(
        "{origin} comes with an adapter, which is stored and not served yet: pull the model it was made for"
    )]
    Adapter {
        /// Where it came from.
        origin: String,
    },
    /// A checksum that is none.
    #[error("{text:?} is no SHA-256: it has 64 hexadecimal digits")]
    NoDigest {
        /// What was given.
        text: String,
    },
    /// This build leaves something out.
    #[error("this build of the hub cannot do that: build it with the feature `{feature}`")]
    NotBuilt {
        /// The feature that it was built without.
        feature: &'static str,
    },
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] hub_store::Error),
    /// The home directory cannot be used.
    #[error("cannot use {}", path.display())]
    Home {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// Another server uses the home directory.
    #[error("another hub serves {} at {address}: use that one, or set HUB_HOME to another directory", home.display())]
    HomeInUse {
        /// The directory.
        home: PathBuf,
        /// Where the other one listens.
        address: String,
    },
    /// The budget is a share, and the system does not say of what.
    #[error(
        "the system does not say how much memory there is: set `memory.budget` to a size such as \"6GiB\""
    )]
    MemoryUnknown,
    /// What is to be imported cannot be found.
    #[error("there is no model at {}", path.display())]
    NoModelAt {
        /// Where it was looked for.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// No name was given, and the name of the file or folder is none a model can have.
    #[error("{} gives no model name: choose one", path.display())]
    NoName {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with its name.
        #[source]
        source: InvalidName,
    },
    /// A path that cannot be kept as text.
    #[error("the path {} is not UTF-8", path.display())]
    PathNotText {
        /// The path.
        path: PathBuf,
    },
    /// The name is reserved for something else.
    #[error("{name} is a reserved name: choose another")]
    ReservedName {
        /// The name.
        name: ModelId,
    },
    /// No model of this name is installed.
    #[error("there is no model `{name}`; installed: {}", installed.join(", "))]
    NoSuchModel {
        /// What was asked for.
        name: String,
        /// What is installed, sorted.
        installed: Vec<String>,
    },
    /// The files of an imported model are not where they were.
    #[error("the files of {name} are no longer at {}: put them back, or forget the model", path.display())]
    Gone {
        /// The model.
        name: ModelId,
        /// Where they were.
        path: PathBuf,
        /// What was found missing.
        #[source]
        source: Box<hub_models::Error>,
    },
    /// The built-in model cannot be removed.
    #[error("{name} is part of this program and cannot be removed")]
    Builtin {
        /// The model.
        name: ModelId,
    },
    /// The files of an imported model are not those that were imported.
    #[error(
        "the files of {name} have changed: it was imported as a {imported} model and is a {found} model now; \
         remove it and import it again"
    )]
    Changed {
        /// The model.
        name: ModelId,
        /// What it was for.
        imported: Task,
        /// What it is for.
        found: Task,
    },
    /// The budget does not hold the model, although every idle one was unloaded.
    #[error(
        "{model} needs {} more of memory and {} of the budget of {} are free: {}raise `memory.budget`",
        Size(over.asked), Size(over.free), Size(over.limit),
        if over.is_hopeless() { "" } else { "wait for other models, or " }
    )]
    OverBudget {
        /// The model.
        model: ModelId,
        /// The numbers.
        over: OverBudget,
    },
    /// A file is where another should be written.
    #[error("{} is there already, and stays as it is: name another place, or have it overwritten", path.display())]
    FileExists {
        /// The file.
        path: PathBuf,
    },
    /// Weights that have been rounded should be rounded again.
    #[error(
        "{name} is {kind} already, and rounding it again would lose a second time: take the model's F16, BF16 or F32 files, \
         or have it quantized again"
    )]
    AlreadyQuantized {
        /// The first such tensor.
        name: String,
        /// How it is stored.
        kind: &'static str,
    },
    /// The disk is too full.
    #[error("{} would take {}, and its disk has {} left: make room, or name a place on another", path.display(), Size(*needed), Size(*free))]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The hub is being shut down.
    #[error("the hub is shutting down")]
    ShuttingDown,
    /// The work was given up because the runtime is going away, or it panicked.
    #[error("the work was stopped before its end")]
    Stopped,
}

impl Error {
    /// Classifies the error for frontends.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(error) => error.kind(),
            Self::Models(error) => error.kind(),
            Self::Device(error) => error.kind(),
            Self::Router(error) => error.kind(),
            #[cfg(feature = "fetch")]
            Self::Fetch(error) => error.kind(),
            Self::NotBuilt { .. } | Self::Adapter { .. } => ErrorKind::Unsupported,
            Self::Store(error) => error.kind(),
            Self::Home { .. }
            | Self::HomeInUse { .. }
            | Self::MemoryUnknown
            | Self::Gone { .. }
            | Self::OverBudget { .. }
            | Self::NoRoom { .. }
            | Self::ShuttingDown => ErrorKind::Unavailable,
            Self::NoModelAt { .. } | Self::NoSuchModel { .. } => ErrorKind::NotFound,
            Self::NoName { .. }
            | Self::NoDigest { .. }
            | Self::PathNotText { .. }
            | Self::ReservedName { .. }
            | Self::FileExists { .. }
            | Self::AlreadyQuantized { .. }
            | Self::Builtin { .. } => ErrorKind::InvalidInput,
            Self::Changed { .. } => ErrorKind::Corrupt,
            Self::Stopped => ErrorKind::Internal,
        }
    }

    /// Tells whether the same request can succeed later although nobody changes anything: what is busy gets done.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::OverBudget { over, .. } => !over.is_hopeless(),
            Self::Models(hub_models::Error::Memory { source, .. }) => !source.is_hopeless(),
            Self::Gone { .. } | Self::MemoryUnknown | Self::Home { .. } | Self::NoRoom { .. } => false,
            error => matches!(error.kind(), ErrorKind::Busy | ErrorKind::Unavailable | ErrorKind::Cancelled),
        }
    }
}
