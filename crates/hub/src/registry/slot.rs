use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use hub_base::{ModelId, Task};
use hub_models::{EmbeddingModel, Reranker, TextModel};
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedMutexGuard},
};

use crate::{
    Error, Result,
    registry::{Loaded, LoadedModel},
};

/// The place of one model, loaded or not.
#[derive(Debug)]
pub(super) struct Slot {
    /// Tells models apart that had the same name one after the other.
    version: i64,
    model: Mutex<Option<Loaded>>,
    /// Held by whoever loads the model.
    loading: Arc<tokio::sync::Mutex<()>>,
    users: AtomicUsize,
    last_use: AtomicU64,
    freed: Arc<Notify>,
}

impl Slot {
    pub(super) fn new(version: i64, freed: Arc<Notify>) -> Self {
        Self {
            version,
            model: Mutex::default(),
            loading: Arc::default(),
            users: AtomicUsize::new(0),
            last_use: AtomicU64::new(0),
            freed,
        }
    }

    pub(super) fn version(&self) -> i64 {
        self.version
    }

    /// Waits for the turn to load.
    pub(super) async fn loading(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.loading).lock_owned().await
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.lock().is_some()
    }

    pub(super) fn is_used(&self) -> bool {
        self.users.load(Ordering::Acquire) > 0
    }

    /// Tells whether the model is in memory and nobody uses it.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_used() && self.is_loaded()
    }

    pub(super) fn last_use(&self) -> u64 {
        self.last_use.load(Ordering::Relaxed)
    }

    /// Returns the model if it is in memory.
    pub(super) fn model(&self) -> Option<Loaded> {
        self.lock().clone()
    }

    /// Puts a model that was just loaded in its place.
    pub(super) fn put(&self, model: Loaded) {
        *self.lock() = Some(model);
    }

    /// Takes the model out; whoever still uses it keeps it alive.
    pub(super) fn unload(&self) -> Option<Loaded> {
        self.lock().take()
    }

    /// Describes the model if it is in memory.
    pub(super) fn describe(&self, name: &ModelId) -> Option<LoadedModel> {
        self.lock().as_ref().map(|model| model.describe(name))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Loaded>> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a slot: while it lives, the model is not unloaded to make room.
#[derive(Debug)]
pub(super) struct Hold(Arc<Slot>);

/// A model in use.
#[derive(Debug)]
pub(crate) struct Lease {
    name: ModelId,
    slot: Arc<Slot>,
    /// Nothing once it is dropped.
    used: Option<Used>,
}

#[derive(Debug)]
struct Used {
    // Dropped before the hold: a model that was unloaded meanwhile is gone when the hold ends.
    model: Loaded,
    _hold: Hold,
}

impl Drop for Lease {
    /// Ends the use; of a model that was unloaded meanwhile where waiting for its thread harms nobody.
    fn drop(&mut self) {
        let used = self.used.take();
        if !self.slot.is_loaded()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn_blocking(move || drop(used));
        }
    }
}

impl Hold {
    /// Begins a use; to be called under the registry's lock.
    pub(super) fn new(slot: Arc<Slot>, use_number: u64) -> Self {
        slot.users.fetch_add(1, Ordering::AcqRel);
        slot.last_use.store(use_number, Ordering::Relaxed);
        Self(slot)
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_waiters();
    }
}

impl Lease {
    pub(super) fn new(name: ModelId, model: Loaded, hold: Hold) -> Self {
        let slot = Arc::clone(hold.slot());
        Self { name, slot, used: Some(Used { model, _hold: hold }) }
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// # Errors
    /// Never before the lease is dropped.
    fn model(&self) -> Result<&Loaded> {
        self.used.as_ref().map(|used| &used.model).ok_or(Error::Stopped)
    }

    /// Returns the model's name.
    pub(crate) fn name(&self) -> &ModelId {
        &self.name
    }

    /// Returns the language model.
    ///
    /// # Errors
    /// [`Error::Changed`] if the files hold another kind of model than they did when it was imported.
    pub(crate) fn text(&self) -> Result<&TextModel> {
        match self.model()? {
            Loaded::Text(model) => Ok(model),
            other => Err(self.changed(Task::Chat, other)),
        }
    }

    /// Returns the embedding model.
    ///
    /// # Errors
    /// As [`Lease::text`].
    pub(crate) fn embedding(&self) -> Result<&EmbeddingModel> {
        match self.model()? {
            Loaded::Embedding(model) => Ok(model),
            other => Err(self.changed(Task::Embed, other)),
        }
    }

    /// Returns the reranker.
    ///
    /// # Errors
    /// As [`Lease::text`].
    pub(crate) fn reranker(&self) -> Result<&Reranker> {
        match self.model()? {
            Loaded::Reranker(model) => Ok(model),
            other => Err(self.changed(Task::Rerank, other)),
        }
    }

    fn changed(&self, imported: Task, found: &Loaded) -> Error {
        Error::Changed { name: self.name.clone(), imported, found: found.task() }
    }
}
