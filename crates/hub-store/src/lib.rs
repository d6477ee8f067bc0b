//! What the hub remembers: models, keys and usage, as rows.
//!
//! A [`Store`] is one database, opened and migrated by [`Store::open`]. Rows go in and rows come out: what a model or
//! a request is, the store does not know. Today the database is a SQLite file (or memory); its statements are written
//! in the `$1` form that PostgreSQL shares.
//!
//! ```
//! use hub_store::{Database, Store, StoreOptions};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let options = StoreOptions::default().database(Database::Memory);
//! let store = Store::open("unused in memory".as_ref(), options).await?;
//!
//! let key = store.keys().create("laptop", 1_700_000_000_000).await?;
//! let found = store.keys().verify(key.secret.reveal(), 1_700_000_000_500).await?;
//! assert_eq!(found.map(|row| row.name).as_deref(), Some("laptop"));
//!
//! store.close().await;
//! # Ok::<(), hub_store::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Times are arguments, in Unix milliseconds: the store reads no clock.

mod catalog;
mod db;
mod error;
mod keys;
mod options;
mod os;
mod recorder;
mod store;
mod usage;

pub use catalog::{Catalog, ModelRow};
pub use error::{Error, Result};
pub use keys::{KeyRow, Keys, NewKey, Secret};
pub use options::{Database, InvalidDatabaseUrl, StoreOptions};
pub use store::Store;
pub use usage::{ModelUsage, Usage, UsageRow};
