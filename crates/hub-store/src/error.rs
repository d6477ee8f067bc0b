use std::{
    io,
    path::{Path, PathBuf},
};

use hub_base::ErrorKind;

/// What this crate's fallible functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database file cannot be created or opened.
    #[error("cannot open the database {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file is no database, or a damaged one. It is left as it is.
    #[error(
        "{} is damaged or not a database: restore a backup, or move the file away to start with an empty one",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        #[source]
        source: sqlx::Error,
    },
    /// A newer version of the hub wrote the database. It is left as it is.
    #[error(
        "{} has schema version {found} and this program knows {known}: update the hub, or restore an older backup",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The newest migration of the database that this program does not know.
        found: i64,
        /// The newest migration of this program.
        known: i64,
    },
    /// The database belongs to another program. It is left as it is.
    #[error("{} is the database of another program: choose another path", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The schema cannot be brought up to date. The database is left as it was.
    #[error("cannot bring the schema of {} up to date", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// Which migration, and why.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// Another process kept the database for longer than the busy timeout.
    #[error("the database {} is held by another process", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
        /// Which wait ended.
        #[source]
        source: sqlx::Error,
    },
    /// The disk is full, read-only, or failing.
    #[error("cannot write the database {}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: sqlx::Error,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The name is in use.
    #[error("there is already a {what} named {name:?}")]
    NameTaken {
        /// What has names: `model`, `key`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The operating system gave no random numbers for a key.
    #[error("the operating system gives no random numbers")]
    Random(#[source] getrandom::Error),
    /// A statement failed for a reason the caller can do nothing about.
    #[error("a statement failed on the database {}", path.display())]
    Statement {
        /// The file.
        path: PathBuf,
        /// What the driver said.
        #[source]
        source: sqlx::Error,
    },
}

impl Error {
    /// Returns what a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Newer { .. } => ErrorKind::Unsupported,
            Self::Foreign { .. } | Self::NameTaken { .. } => ErrorKind::InvalidInput,
            Self::Busy { .. } => ErrorKind::Busy,
            Self::Open { .. } | Self::Disk { .. } | Self::Closed | Self::Random(_) => ErrorKind::Unavailable,
            Self::Migrate { .. } | Self::Statement { .. } => ErrorKind::Internal,
        }
    }

    /// Sorts an error of the driver by what it means for the caller.
    pub(crate) fn from_driver(path: &Path, source: sqlx::Error) -> Self {
        let path = path.to_owned();
        match &source {
            sqlx::Error::PoolClosed => Self::Closed,
            sqlx::Error::PoolTimedOut => Self::Busy { path, source },
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Corrupt { path, source },
            sqlx::Error::Database(_) => match sqlite_code(&source) {
                Some(SQLITE_BUSY | SQLITE_LOCKED) => Self::Busy { path, source },
                Some(SQLITE_CORRUPT | SQLITE_NOTADB) => Self::Corrupt { path, source },
                Some(SQLITE_READONLY | SQLITE_IOERR | SQLITE_FULL | SQLITE_CANTOPEN) => {
                    Self::Disk { path, source }
                }
                _ => Self::Statement { path, source },
            },
            _ => Self::Statement { path, source },
        }
    }
}

// Primary result codes, <https://www.sqlite.org/rescode.html>.
const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_READONLY: i32 = 8;
const SQLITE_IOERR: i32 = 10;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_CANTOPEN: i32 = 14;
const SQLITE_NOTADB: i32 = 26;

/// Returns SQLite's primary result code: the low byte of the extended one that the driver carries.
fn sqlite_code(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

/// Tells whether another connection was in the way.
pub(crate) fn is_busy(error: &sqlx::Error) -> bool {
    sqlite_code(error) == Some(SQLITE_BUSY)
}

/// Tells whether a row of that name was there already.
pub(crate) fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.is_unique_violation())
}
