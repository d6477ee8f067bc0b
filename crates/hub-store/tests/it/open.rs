use std::{fs, path::Path};

use hub_base::ErrorKind;
use hub_store::{Database, Error, Store, StoreOptions};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{NOW, in_file};

/// Opens the file behind the store's back.
async fn raw(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    SqliteConnection::connect_with(&options).await.unwrap()
}

/// Expects `open` to fail and to leave the file as it was.
#[track_caller]
fn check_refused(result: Result<Store, Error>, path: &Path, before: &[u8], kind: ErrorKind, expected: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.to_string().replace(&path.display().to_string(), "PATH"), expected);
    assert_eq!(error.kind(), kind);
    assert!(fs::read(path).unwrap() == before, "the file was changed");
}

#[tokio::test]
async fn the_file_is_made_for_its_owner_alone() {
    let home = tempfile::tempdir().unwrap();
    let store = in_file(home.path()).await.unwrap();
    store.keys().create("laptop", NOW).await.unwrap();
    #[cfg(unix)]
    for name in ["hub.db", "hub.db-wal", "hub.db-shm"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(home.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    store.close().await;
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["hub.db"], "closing folds the log into the file");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_kept() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hub.db");
    let text = b"this is a letter, and it matters to somebody\n".repeat(100);
    fs::write(&path, &text).unwrap();
    check_refused(
        in_file(home.path()).await,
        &path,
        &text,
        ErrorKind::Corrupt,
        "PATH is damaged or not a database: restore a backup, or move the file away to start with an empty one",
    );
}

#[tokio::test]
async fn a_database_cut_short_is_refused_and_kept() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hub.db");
    in_file(home.path()).await.unwrap().close().await;
    let whole = fs::read(&path).unwrap();
    // SQLite takes a file of no or one byte for a new database, and rounds a length up to whole pages.
    let last_page = whole.len() - 4096;
    for len in (2..=last_page).step_by(997).chain([last_page]) {
        fs::write(&path, &whole[..len]).unwrap();
        let kind = in_file(home.path()).await.map_err(|error| error.kind()).err();
        assert_eq!(kind, Some(ErrorKind::Corrupt), "cut at {len} of {}", whole.len());
        assert!(fs::read(&path).unwrap() == whole[..len], "the file was changed");
    }
}

#[tokio::test]
async fn damage_inside_is_found_where_it_is_read() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hub.db");
    in_file(home.path()).await.unwrap().close().await;
    let whole = fs::read(&path).unwrap();
    let mut found = 0;
    for page in 1..whole.len() / 4096 {
        let mut damaged = whole.clone();
        damaged[page * 4096..][..4096].fill(0xff);
        fs::write(&path, &damaged).unwrap();
        match read_everything(home.path()).await {
            // The page belongs to an index that no read uses.
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "page {page}: {error:?}");
                found += 1;
            }
        }
    }
    assert!(found >= 4, "the tables and the migrations are read: {found}");
}

async fn read_everything(home: &Path) -> Result<(), Error> {
    let store = in_file(home).await?;
    let read = async {
        store.keys().list().await?;
        store.keys().verify("hub_", NOW).await?;
        store.catalog().list().await?;
        store.usage().summary(0).await.map(drop)
    };
    let read = read.await;
    store.close().await;
    read
}

#[tokio::test]
async fn a_database_of_a_newer_hub_is_refused_and_kept() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hub.db");
    in_file(home.path()).await.unwrap().close().await;
    let mut connection = raw(&path).await;
    let statement = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', TRUE, x'00', 0)";
    sqlx::query(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let before = fs::read(&path).unwrap();
    check_refused(
        in_file(home.path()).await,
        &path,
        &before,
        ErrorKind::Unsupported,
        "PATH has schema version 9999 and this program knows 4: update the hub, or restore an older backup",
    );
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_and_kept() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hub.db");
    let mut connection = raw(&path).await;
    sqlx::query("CREATE TABLE recipes (name TEXT)").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let before = fs::read(&path).unwrap();
    check_refused(
        in_file(home.path()).await,
        &path,
        &before,
        ErrorKind::InvalidInput,
        "PATH is the database of another program: choose another path",
    );
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_an_error_with_the_path() {
    let home = tempfile::tempdir().unwrap();
    let error = in_file(&home.path().join("missing")).await.unwrap_err();
    assert!(matches!(error, Error::Open { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_may_open_a_new_file_together() {
    let home = tempfile::tempdir().unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|i| {
            let home = home.path().to_owned();
            tokio::spawn(async move {
                let store = in_file(&home).await?;
                store.keys().create(&format!("key {i}"), NOW).await?;
                Ok::<_, Error>(store)
            })
        })
        .collect();
    let mut stores = Vec::new();
    for task in tasks {
        stores.push(task.await.unwrap().unwrap());
    }
    for store in &stores {
        assert_eq!(store.keys().list().await.unwrap().len(), 8);
    }
    for store in &stores {
        store.close().await;
    }
}

#[tokio::test]
async fn reads_go_on_while_another_process_writes() {
    let home = tempfile::tempdir().unwrap();
    let mut options = StoreOptions::default().database(Database::File("hub.db".into()));
    options.busy_timeout_ms = 1;
    let store = Store::open(home.path(), options).await.unwrap();
    let key = store.keys().create("laptop", NOW).await.unwrap();

    let mut other = raw(&home.path().join("hub.db")).await;
    let mut writing = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    sqlx::query("DELETE FROM api_keys").execute(&mut *writing).await.unwrap();
    assert!(store.keys().verify(key.secret.reveal(), NOW).await.unwrap().is_some());
    let error = store.keys().create("second", NOW).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error:?}");

    writing.rollback().await.unwrap();
    other.close().await.unwrap();
    store.keys().create("second", NOW).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_damaged_row_is_an_error_that_names_the_file() {
    let home = tempfile::tempdir().unwrap();
    let store = in_file(home.path()).await.unwrap();
    let mut other = raw(&home.path().join("hub.db")).await;
    let statement = "INSERT INTO models VALUES ('no such name!', '', '', '', '', '', '', 1, 1, 1, '{}', 0)";
    sqlx::query(statement).execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    let error = store.catalog().list().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    store.close().await;
}
