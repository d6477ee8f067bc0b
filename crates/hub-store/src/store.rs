use std::{path::Path, sync::Arc};

use crate::{Catalog, Keys, Result, StoreOptions, Usage, db::Db, recorder::Recorder};

/// One database and everything the hub keeps in it. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
    recorder: Arc<Recorder>,
    catalog: Catalog,
    keys: Keys,
    usage: Usage,
}

impl Store {
    /// Opens the database, creates it if it is not there, and brings its schema up to date.
    ///
    /// A relative path in `options` is relative to `home`, which must exist. A new file can be read by its owner
    /// alone (on Unix). Must be called inside a tokio runtime: one task of it writes usage rows until
    /// [`close`](Self::close).
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt), [`Newer`](crate::Error::Newer) and
    /// [`Foreign`](crate::Error::Foreign) for a file the hub will not touch;
    /// [`Open`](crate::Error::Open), [`Disk`](crate::Error::Disk) and [`Busy`](crate::Error::Busy) for one it cannot
    /// use now.
    pub async fn open(home: &Path, options: StoreOptions) -> Result<Self> {
        let db = Db::open(home, &options).await?;
        let recorder = Arc::new(Recorder::start(db.clone(), options.usage_queue));
        Ok(Self {
            catalog: Catalog::new(db.clone()),
            keys: Keys::new(db.clone(), recorder.clone()),
            usage: Usage::new(db.clone(), recorder.clone()),
            recorder,
            db,
        })
    }

    /// Returns the models the hub may load.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Returns the API keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Returns what requests used.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Writes what is still queued and closes the database; what is recorded after that is dropped.
    ///
    /// Every clone is closed with it.
    pub async fn close(&self) {
        self.recorder.close().await;
        self.db.close().await;
    }
}
