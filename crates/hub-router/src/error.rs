use std::fmt;

use hub_base::{ErrorKind, InvalidName, ModelId, Task};

/// What this crate's fallible functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why no model was chosen, or why a router could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name asked for is neither installed nor an alias.
    #[error("there is no model {asked:?}; installed: {}", List(installed))]
    NoSuchModel {
        /// What was asked for.
        asked: String,
        /// What is installed, sorted.
        installed: Vec<ModelId>,
    },
    /// The name asked for is an alias, and nothing it leads to is installed.
    #[error(
        "alias {alias:?} leads to {}, which is not installed; installed: {}",
        List(wanted),
        List(installed)
    )]
    AliasUnmet {
        /// What was asked for.
        alias: String,
        /// The models it leads to.
        wanted: Vec<ModelId>,
        /// What is installed, sorted.
        installed: Vec<ModelId>,
    },
    /// The model asked for exists and does something else.
    #[error("model {model} cannot {task}; it can {}", List(tasks))]
    NotCapable {
        /// The model.
        model: ModelId,
        /// What was asked of it.
        task: Task,
        /// What it can do.
        tasks: Vec<Task>,
    },
    /// The choice was left to the router, and no installed model does what is asked.
    #[error("no installed model can {task}; installed: {}", List(installed))]
    NoneCapable {
        /// What was asked.
        task: Task,
        /// What is installed, sorted.
        installed: Vec<ModelId>,
    },
    /// The choice was left to the router, and the request is far longer than every model's context.
    #[error("the request may take {asked} tokens and the longest context is {limit}")]
    TooLong {
        /// The upper estimate of the request, in tokens.
        asked: u64,
        /// The longest context among the models that can do the task, in tokens.
        limit: u64,
    },
    /// Aliases lead back to where they began.
    #[error("aliases lead in a circle: {}", chain.join(" -> "))]
    AliasLoop {
        /// The circle; its first and last names are the same.
        chain: Vec<String>,
    },
    /// An alias leads nowhere.
    #[error("alias {alias:?} names no model")]
    EmptyAlias {
        /// The alias.
        alias: String,
    },
    /// An alias would hide a word that has a meaning of its own.
    #[error("{alias:?} is a reserved name and cannot be an alias")]
    ReservedAlias {
        /// The alias.
        alias: String,
    },
    /// An alias leads to something that cannot be a model's name.
    #[error("alias {alias:?} leads to an impossible name: {reason}")]
    BadAlias {
        /// The alias.
        alias: String,
        /// What is wrong with the name.
        reason: InvalidName,
    },
}

impl Error {
    /// Returns what a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchModel { .. } | Self::AliasUnmet { .. } | Self::NoneCapable { .. } => {
                ErrorKind::NotFound
            }
            Self::NotCapable { .. } => ErrorKind::Unsupported,
            Self::TooLong { .. } => ErrorKind::TooLarge,
            Self::AliasLoop { .. }
            | Self::EmptyAlias { .. }
            | Self::ReservedAlias { .. }
            | Self::BadAlias { .. } => ErrorKind::InvalidInput,
        }
    }

    /// Returns the alias that is at fault, where one is.
    pub fn alias(&self) -> Option<&str> {
        match self {
            Self::AliasLoop { chain } => chain.first().map(String::as_str),
            Self::EmptyAlias { alias } | Self::ReservedAlias { alias } | Self::BadAlias { alias, .. } => {
                Some(alias)
            }
            _ => None,
        }
    }
}

/// Writes a list for people: `a, b, c`, or `none`.
struct List<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.0.split_first() else { return f.write_str("none") };
        write!(f, "{first}")?;
        rest.iter().try_for_each(|item| write!(f, ", {item}"))
    }
}
