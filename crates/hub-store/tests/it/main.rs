//! The store against a real file, and in memory where a file would add nothing.
#![cfg(test)]

mod catalog;
mod keys;
mod open;
mod send;
mod usage;

use std::path::Path;

use hub_store::{Database, Result, Store, StoreOptions};

/// Some time in 2023, in Unix milliseconds.
const NOW: i64 = 1_700_000_000_000;

async fn in_memory() -> Store {
    let options = StoreOptions::default().database(Database::Memory);
    Store::open(Path::new("unused"), options).await.unwrap()
}

async fn in_file(home: &Path) -> Result<Store> {
    Store::open(home, StoreOptions::default()).await
}
