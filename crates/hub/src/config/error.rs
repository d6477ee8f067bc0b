use std::path::PathBuf;

use hub_base::ErrorKind;

use crate::config::Origin;

/// What is wrong with the settings, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is not TOML.
    #[error("{}:{line}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// There is no such setting.
    #[error("{at}: there is no setting `{key}`{}", suggestion(nearest.as_deref()))]
    Unknown {
        /// What was written.
        key: String,
        /// Where.
        at: Origin,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// The setting has a name and no effect yet.
    #[error("{at}: `{key}` is not supported yet: remove it")]
    NotYet {
        /// The setting.
        key: String,
        /// Where it was set.
        at: Origin,
    },
    /// The value is not one the setting can have.
    #[error("{at}: `{key}`: {reason}")]
    Value {
        /// The setting.
        key: String,
        /// Where it was set.
        at: Origin,
        /// What is wrong with the value.
        reason: String,
    },
    /// An alias leads nowhere, or back to itself.
    #[error("{at}: {reason}")]
    Alias {
        /// Where it was set.
        at: Origin,
        /// What is wrong with it.
        reason: hub_router::Error,
    },
}

impl ConfigError {
    /// Classifies the error for frontends.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default()
}
