use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

/// Settings of a [`Store`](crate::Store).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StoreOptions {
    /// Where the rows are kept.
    pub database_url: Database,
    /// How many reads run at once.
    pub readers: u32,
    /// How long a statement waits while another process writes, in milliseconds.
    pub busy_timeout_ms: u64,
    /// How many usage rows may wait to be written; more than these are dropped and counted.
    pub usage_queue: usize,
}

/// Where rows are kept; written `sqlite:PATH` or `sqlite::memory:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Database {
    /// In memory, until the store is closed.
    Memory,
    /// In a SQLite file. A relative path is relative to the home directory given to
    /// [`Store::open`](crate::Store::open).
    File(PathBuf),
}

/// A database URL that this build cannot use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot use a {scheme:?} database: write sqlite:PATH or sqlite::memory:")]
pub struct InvalidDatabaseUrl {
    /// What stands before the colon, without the rest: a URL may hold a password.
    pub scheme: String,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            database_url: Database::File(PathBuf::from("hub.db")),
            readers: 4,
            busy_timeout_ms: 5_000,
            usage_queue: 4_096,
        }
    }
}

impl StoreOptions {
    /// Sets where the rows are kept.
    #[must_use]
    pub fn database(mut self, database: Database) -> Self {
        self.database_url = database;
        self
    }

    /// Sets how many usage rows may wait to be written; at least one may.
    #[must_use]
    pub fn usage_queue(mut self, rows: usize) -> Self {
        self.usage_queue = rows;
        self
    }
}

impl FromStr for Database {
    type Err = InvalidDatabaseUrl;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = url.split_once(':').unwrap_or_default();
        let path = rest.strip_prefix("//").unwrap_or(rest);
        match (scheme, path) {
            ("sqlite", ":memory:") => Ok(Self::Memory),
            ("sqlite", path) if !path.is_empty() => Ok(Self::File(PathBuf::from(path))),
            _ => Err(InvalidDatabaseUrl { scheme: scheme.to_owned() }),
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("sqlite::memory:"),
            Self::File(path) => write!(f, "sqlite:{}", path.display()),
        }
    }
}

impl TryFrom<String> for Database {
    type Error = InvalidDatabaseUrl;

    fn try_from(url: String) -> Result<Self, Self::Error> {
        url.parse()
    }
}

impl From<Database> for String {
    fn from(database: Database) -> Self {
        database.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Result<&str, &str>) {
        let parsed = url.parse::<Database>().map(|database| database.to_string());
        assert_eq!(parsed.as_deref().map_err(|error| error.scheme.as_str()), expected);
    }

    #[test]
    fn urls_people_write_are_read() {
        check("sqlite:hub.db", Ok("sqlite:hub.db"));
        check("sqlite://hub.db", Ok("sqlite:hub.db"));
        check("sqlite:///srv/hub.db", Ok("sqlite:/srv/hub.db"));
        check("sqlite::memory:", Ok("sqlite::memory:"));
    }

    #[test]
    fn others_are_refused_without_repeating_a_password() {
        check("postgres://me:secret@host/db", Err("postgres"));
        check("hub.db", Err(""));
        check("sqlite:", Err("sqlite"));
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        assert!(serde_json::from_str::<StoreOptions>(r#"{"url": "x"}"#).is_err());
        let read: StoreOptions = serde_json::from_str(r#"{"database_url": "sqlite::memory:"}"#).unwrap();
        assert_eq!(read, StoreOptions::default().database(Database::Memory));
    }
}
