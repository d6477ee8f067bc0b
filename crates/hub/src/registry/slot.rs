use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hub_base::{ModelId, Task};
use hub_models::{EmbeddingModel, Reranker, TextModel, Usage};
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedMutexGuard},
};

use crate::{
    Error, Result,
    config::KeepAlive,
    registry::{Loaded, LoadedModel, loading::Loading, tally::Tally, uses::Uses},
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
    /// How long it stays, and since when nobody uses it.
    rest: Mutex<Rest>,
    /// How far its load has come, while it is loaded.
    loading_state: Mutex<Option<Loading>>,
    tally: Tally,
    /// How long its last load lasted.
    load_time: Mutex<Duration>,
    name: ModelId,
    /// When all models are used.
    uses: Arc<Uses>,
    /// Woken when a use ends: whoever waits for all, and whoever unloads what is kept no longer.
    wakers: [Arc<Notify>; 2],
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    keep_alive: KeepAlive,
    since: Instant,
}

impl Slot {
    pub(super) fn new(name: ModelId, version: i64, uses: Arc<Uses>, wakers: [Arc<Notify>; 2]) -> Self {
        Self {
            name,
            uses,
            load_time: Mutex::default(),
            version,
            model: Mutex::default(),
            loading: Arc::default(),
            users: AtomicUsize::new(0),
            rest: Mutex::new(Rest { keep_alive: KeepAlive::Forever, since: Instant::now() }),
            loading_state: Mutex::default(),
            tally: Tally::default(),
            wakers,
        }
    }

    pub(super) fn version(&self) -> i64 {
        self.version
    }

    /// Waits for the turn to load.
    pub(super) async fn turn(&self) -> OwnedMutexGuard<()> {
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

    /// Returns the model if it is in memory.
    pub(super) fn model(&self) -> Option<Loaded> {
        self.lock().clone()
    }

    /// Returns how long its last load lasted.
    pub(super) fn load_time(&self) -> Duration {
        *self.load_time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a model that was just loaded in its place.
    pub(super) fn put(&self, model: Loaded, load_time: Duration) {
        self.tally.reset();
        *self.load_time.lock().unwrap_or_else(PoisonError::into_inner) = load_time;
        *self.lock() = Some(model);
    }

    /// Takes the model out; whoever still uses it keeps it alive.
    pub(super) fn unload(&self) -> Option<Loaded> {
        self.lock().take()
    }

    /// Describes the model if it is in memory.
    pub(super) fn describe(&self, name: &ModelId) -> Option<LoadedModel> {
        let described = self.lock().as_ref().map(|model| model.describe(name));
        described.map(|model| model.with(self.tally.figures(), self.expires_at()))
    }

    /// Returns when an idle model is to leave; `None` if it is used, not in memory, or stays.
    pub(super) fn expires_at(&self) -> Option<Instant> {
        if !self.is_idle() {
            return None;
        }
        let rest = *self.rest();
        match rest.keep_alive {
            KeepAlive::Forever => None,
            KeepAlive::For(time) => rest.since.checked_add(time),
        }
    }

    pub(super) fn keep_for(&self, keep_alive: KeepAlive) {
        self.rest().keep_alive = keep_alive;
    }

    /// Notes that the model is being loaded, until what is returned is dropped.
    pub(super) fn begin_loading(self: &Arc<Self>) -> LoadingNote {
        let state = Loading::begin();
        *self.loading() = Some(state.clone());
        LoadingNote { slot: Arc::clone(self), state }
    }

    pub(super) fn loading_state(&self) -> Option<Loading> {
        self.loading().clone()
    }

    fn loading(&self) -> MutexGuard<'_, Option<Loading>> {
        self.loading_state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Loaded>> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that a model is being loaded, however the load ends.
#[derive(Debug)]
pub(super) struct LoadingNote {
    slot: Arc<Slot>,
    state: Loading,
}

impl LoadingNote {
    pub(super) fn state(&self) -> &Loading {
        &self.state
    }
}

impl Drop for LoadingNote {
    fn drop(&mut self) {
        *self.slot.loading() = None;
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
    pub(super) fn new(slot: Arc<Slot>, keep_alive: KeepAlive) -> Self {
        slot.keep_for(keep_alive);
        slot.uses.begins(&slot.name);
        slot.users.fetch_add(1, Ordering::AcqRel);
        Self(slot)
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.rest().since = Instant::now();
        self.0.uses.ends(&self.0.name);
        self.0.users.fetch_sub(1, Ordering::AcqRel);
        let [freed, changed] = &self.0.wakers;
        freed.notify_waiters();
        changed.notify_one();
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

    /// Counts a request that was answered.
    pub(crate) fn answered(&self, usage: &Usage) {
        self.slot.tally.add(usage);
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
