use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{
    Connection, SqliteConnection, SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{Database, Error, Result, StoreOptions, error::is_busy, os::create_private};

/// Every schema change, inside the program.
static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// What SQLite's header says of our files: "HUB!" in ASCII.
const APPLICATION_ID: i32 = 0x4855_4221;

/// One database: a connection that writes and several that read.
///
/// In a SQLite file with a write-ahead log, readers see the last committed state while a write goes on. One writer
/// makes the writes of this process wait in line instead of failing with "locked"; other processes (the command line
/// beside a running server) are waited for up to the busy timeout.
#[derive(Clone)]
pub(crate) struct Db {
    writer: SqlitePool,
    reader: SqlitePool,
    path: Arc<Path>,
}

impl Db {
    /// Opens the database that `options` name, creates it if it is not there, and brings its schema up to date.
    pub(crate) async fn open(home: &Path, options: &StoreOptions) -> Result<Self> {
        let busy_timeout = Duration::from_millis(options.busy_timeout_ms);
        let (path, connect) = match &options.database_url {
            Database::Memory => (PathBuf::from(":memory:"), SqliteConnectOptions::new().in_memory(true)),
            Database::File(path) => {
                let path = home.join(path);
                create_private(&path).map_err(|source| Error::Open { path: path.clone(), source })?;
                let connect = SqliteConnectOptions::new().filename(&path);
                (path, connect)
            }
        };
        let driver_error = |source| Error::from_driver(&path, source);
        // A revoked key must stay revoked after a power cut, so every commit reaches the disk.
        let connect = connect.busy_timeout(busy_timeout).synchronous(SqliteSynchronous::Full);

        // A database in memory lives in its one connection: that one reads as well, and is never closed for being old.
        let pool = || SqlitePoolOptions::new().idle_timeout(None).max_lifetime(None);
        let writer = pool().max_connections(1).connect_with(connect.clone()).await.map_err(driver_error)?;
        if let Err(error) = prepare(&writer, &path, busy_timeout).await {
            // Leaves no log beside a file that is not ours.
            writer.close().await;
            return Err(error);
        }
        let reader = match options.database_url {
            Database::Memory => writer.clone(),
            Database::File(_) => pool().max_connections(options.readers.max(1)).connect_lazy_with(connect),
        };
        Ok(Self { writer, reader, path: path.into() })
    }

    /// Returns the connections that statements which change rows run on.
    pub(crate) fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// Returns the connections that statements which only read run on.
    pub(crate) fn reader(&self) -> &SqlitePool {
        &self.reader
    }

    /// Sorts an error of the driver by what it means for the caller.
    pub(crate) fn error(&self, source: sqlx::Error) -> Error {
        Error::from_driver(&self.path, source)
    }

    /// Waits for running statements and closes every connection.
    pub(crate) async fn close(&self) {
        self.reader.close().await;
        // Last, because the last connection folds the write-ahead log into the file.
        self.writer.close().await;
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Db").field(&self.path).finish()
    }
}

/// Turns a count into a column's type, which has no unsigned form. No real count reaches the bound.
pub(crate) fn column(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Checks whose file this is before anything is written to it, then turns the log on and migrates.
async fn prepare(writer: &SqlitePool, path: &Path, busy_timeout: Duration) -> Result<()> {
    let driver_error = |source| Error::from_driver(path, source);
    let mut connection = writer.acquire().await.map_err(driver_error)?;
    if !is_ours(&mut connection).await.map_err(driver_error)? {
        return Err(Error::Foreign { path: path.to_owned() });
    }
    write_ahead(&mut connection, busy_timeout).await.map_err(driver_error)?;
    migrate(&mut connection).await.map_err(|source| migrate_error(path, source))
}

/// Tells whether a database is empty or was made by this program.
async fn is_ours(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    let id: i32 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await?;
    if id == APPLICATION_ID {
        return Ok(true);
    }
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(connection).await?;
    Ok(id == 0 && tables == 0)
}

/// Turns the write-ahead log on. The file remembers it, so later connections find it on.
async fn write_ahead(connection: &mut SqliteConnection, busy_timeout: Duration) -> sqlx::Result<()> {
    let start = Instant::now();
    loop {
        let answer =
            sqlx::query_scalar::<_, String>("PRAGMA journal_mode = WAL").fetch_one(&mut *connection).await;
        match answer {
            // SQLite's own busy timeout does not cover this statement, so two processes that create the file
            // together would fail without a second try.
            Err(error) if is_busy(&error) && start.elapsed() < busy_timeout => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => return Err(error),
            Ok(mode) => {
                if !matches!(mode.as_str(), "wal" | "memory") {
                    tracing::warn!(
                        mode,
                        "the file system cannot keep a write-ahead log; writes will block reads"
                    );
                }
                return Ok(());
            }
        }
    }
}

/// Applies the migrations that are missing, all or none.
async fn migrate(connection: &mut SqliteConnection) -> Result<(), MigrateError> {
    // The lock comes first: of two processes that start together, the second finds the work done.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    // Not `run`: through its `Acquire` bound the compiler cannot see that the future is `Send`.
    MIGRATIONS.run_direct(None, &mut *transaction, false).await?;
    sqlx::query("PRAGMA application_id = 0x48554221").execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

fn migrate_error(path: &Path, source: MigrateError) -> Error {
    match source {
        MigrateError::VersionMissing(found) => {
            let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
            Error::Newer { path: path.to_owned(), found, known }
        }
        MigrateError::Execute(source) => Error::from_driver(path, source),
        source => Error::Migrate { path: path.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    #[test]
    fn every_migration_is_embedded() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
        let number = |name: &str| name.split('_').next().and_then(|digits| digits.parse::<i64>().ok());
        let on_disk: BTreeSet<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| number(entry.unwrap().file_name().to_str().unwrap()).unwrap())
            .collect();
        assert_eq!(on_disk, MIGRATIONS.iter().map(|migration| migration.version).collect());
    }

    #[test]
    fn a_count_past_the_column_saturates() {
        assert_eq!(column(7), 7);
        assert_eq!(column(u64::MAX), i64::MAX);
    }
}
