//! The models in memory: each is loaded once, on first use, and leaves when its memory is needed.

mod cut;
mod departures;
mod expiry;
mod loaded;
mod loading;
mod slot;
mod tally;
mod uses;

use std::{
    collections::HashMap,
    error::Error as StdError,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hub_base::{CancelToken, ErrorKind, ModelId, OverBudget, ProgressSink, Size};
use hub_models::LoadOptions;
use hub_nn::Device;
use hub_pool::{Candidate, cheapest};
use tokio::sync::{Notify, watch};

use crate::{Error, Installed, Result, catalog::PackedCache, config::KeepAlive, open::blocking};

pub(crate) use cut::Cut;
use departures::Departures;
pub(crate) use loaded::Loaded;
pub use loaded::LoadedModel;
use loading::Loading;
pub use loading::LoadingModel;
pub(crate) use slot::Lease;
use slot::{Hold, Slot};
use uses::Uses;

/// The models in memory. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Registry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    device: Device,
    options: LoadOptions,
    packed: PackedCache,
    /// How long a model stays that nobody says otherwise of.
    keep_alive: KeepAlive,
    slots: Mutex<HashMap<ModelId, Arc<Slot>>>,
    /// When models are used.
    uses: Arc<Uses>,
    /// Wakes a shutdown when a lease ends.
    freed: Arc<Notify>,
    /// Models whose memory is not given back yet.
    departures: Departures,
    /// Wakes whoever unloads models that are kept no longer, when one may have to leave earlier than the others.
    changed: Arc<Notify>,
    is_closed: AtomicBool,
    /// Stops loads when the hub shuts down.
    cancel: CancelToken,
    /// Turns true when answers that still run are to be cut off.
    cut: watch::Sender<bool>,
}

/// How long answers that are cut off have for telling their callers.
const CUT: Duration = Duration::from_secs(1);

impl Registry {
    /// Makes a registry whose models run on `device`, within its account. To be called within a runtime.
    pub(crate) fn new(
        device: Device,
        options: LoadOptions,
        packed: PackedCache,
        keep_alive: KeepAlive,
    ) -> Self {
        let cancel = CancelToken::new();
        let registry = Self(Arc::new(Shared {
            device,
            options: options.cancel(cancel.clone()),
            packed,
            keep_alive,
            slots: Mutex::default(),
            uses: Arc::new(Uses::new()),
            freed: Arc::default(),
            departures: Departures::default(),
            changed: Arc::default(),
            is_closed: AtomicBool::new(false),
            cancel,
            cut: watch::Sender::new(false),
        }));
        registry.expire_models();
        registry
    }

    /// Returns a model, in use until the lease is dropped, and loads it first if it is not in memory.
    ///
    /// However many ask at once, one load runs and the others wait for it; loads of other models go on beside it. A
    /// load whose callers have all left goes on, for the next one. The model stays for `keep_alive` after this use, for
    /// as long as the settings say if that is `None`.
    ///
    /// # Errors
    /// [`Error::OverBudget`] if the budget does not hold it although every idle model was unloaded, and whatever the
    /// load failed of. A failure is not remembered: the next caller tries again.
    pub(crate) async fn get(
        &self,
        installed: &Installed,
        keep_alive: Option<KeepAlive>,
        progress: ProgressSink,
    ) -> Result<Lease> {
        let hold = self.hold(installed, keep_alive)?;
        let name = installed.name.clone();
        if let Some(model) = hold.slot().model() {
            return Ok(Lease::new(name, model, hold));
        }
        let turn = hold.slot().turn().await;
        if let Some(model) = hold.slot().model() {
            return Ok(Lease::new(name, model, hold));
        }
        let this = self.clone();
        let installed = installed.clone();
        blocking(move || {
            // The turn moves along: it ends with the load, not with whoever waits for it.
            let _turn = turn;
            let loading = hold.slot().begin_loading();
            let model = this.open(&installed, loading.state(), progress)?;
            if !this.has(&name) {
                // Its model was removed meanwhile, and it came too late to leave with it.
                this.0.packed.remove(&installed)?;
            }
            hold.slot().put(model.clone(), loading.state().elapsed());
            drop(loading);
            Ok(Lease::new(name, model, hold))
        })
        .await?
    }

    /// Loads a model, unloading idle ones, those that cost least to load again, for as long as the budget is too small.
    fn open(&self, installed: &Installed, loading: &Loading, progress: ProgressSink) -> Result<Loaded> {
        let mut options = self.0.options.clone().progress(loading.watch(&installed.name, progress));
        options.packed_file = self.0.packed.place_for(installed);
        loop {
            let gone = self.0.departures.gone();
            let opened = Loaded::open(installed, options.clone());
            let Err(error) = opened else {
                if let Ok(model) = &opened {
                    self.0.packed.trim();
                    self.say_loaded(installed, model, loading);
                }
                return opened;
            };
            let Some(over) = over_budget(&error) else { return Err(explained(installed, error)) };
            // What leaves already may be enough.
            if self.0.departures.wait(gone) {
                continue;
            }
            // Whoever cannot be helped costs nobody their model.
            let needed = over.asked.saturating_sub(over.free).max(1);
            if over.asked > self.within_reach() || !self.evict(needed, &installed.name) {
                return Err(Error::OverBudget { model: installed.name.clone(), over });
            }
        }
    }

    /// Writes what a model that was just loaded takes, and how long its sequences may be.
    fn say_loaded(&self, installed: &Installed, model: &Loaded, loading: &Loading) {
        let (context_tokens, made_for) = (model.context_tokens(), installed.context_tokens as usize);
        tracing::info!(
            model = %installed.name,
            context_tokens,
            memory = %Size(model.weight_bytes()),
            elapsed_ms = loading.elapsed().as_millis() as u64,
            "loaded"
        );
        if context_tokens < made_for && self.0.options.context_tokens.is_none() {
            tracing::warn!(
                model = %installed.name,
                "sequences have at most {context_tokens} of the {made_for} tokens it was made for: the memory budget \
                 holds no more"
            );
        }
    }

    /// Unloads idle models until `bytes` are free, or none is left. Blocks until their threads have ended.
    ///
    /// Nothing is unloaded if that would not be enough. `name` is the model that they are for.
    pub(crate) fn make_room(&self, bytes: u64, name: &ModelId) {
        let missing = || bytes.saturating_sub(self.device().account().free_bytes());
        if missing() > 0 {
            self.0.departures.wait(0);
        }
        while missing() > 0 && bytes <= self.within_reach() && self.evict(missing(), name) {}
    }

    /// Returns how many bytes would be free if every idle model were unloaded.
    fn within_reach(&self) -> u64 {
        let slots = self.slots();
        let idle = slots.iter().filter(|(_, slot)| slot.is_idle());
        let held = idle.filter_map(|(name, slot)| slot.describe(name)).map(|model| model.memory_bytes);
        self.device().account().free_bytes().saturating_add(held.sum())
    }

    /// Returns what is ready once answers that still run are to be cut off.
    pub(crate) fn cut(&self) -> Cut {
        Cut::new(self.0.cut.subscribe())
    }

    /// Unloads the models that nobody uses and that cost least to be without, of those that together free `needed` bytes, when
    /// `asked` is asked for; all that are idle if they are too few. `false` if there is none.
    fn evict(&self, needed: u64, asked: &ModelId) -> bool {
        let evicted: Vec<_> = {
            let slots = self.slots();
            let mut idle: Vec<_> = slots.iter().filter(|(_, slot)| slot.is_idle()).collect();
            idle.sort_by_key(|(name, _)| *name);
            let candidates: Vec<Candidate> =
                idle.iter().map(|(name, slot)| self.candidate(name, slot, asked)).collect();
            let chosen = cheapest(&candidates, needed).unwrap_or_else(|| (0..idle.len()).collect());
            let leaving = chosen.into_iter().filter_map(|place| idle.get(place));
            // Under the lock, so that nobody begins to use one between the choice and the act.
            leaving
                .filter_map(|(name, slot)| Some(((*name).clone(), slot.unload()?, self.0.departures.begin())))
                .collect()
        };
        let has_evicted = !evicted.is_empty();
        for (name, model, departure) in evicted {
            // Outside the lock: this waits for the model's thread.
            drop(model);
            drop(departure);
            tracing::info!(model = %name, "unloaded, its memory is needed");
        }
        has_evicted
    }

    /// Says what a model would free, and what it would cost to be without.
    fn candidate(&self, name: &ModelId, slot: &Slot, asked: &ModelId) -> Candidate {
        let bytes = slot.describe(name).map_or(0, |model| model.memory_bytes);
        Candidate { bytes, cost: self.0.uses.cost(name, asked, slot.load_time()) }
    }

    /// Forgets a model, and unloads it as soon as nobody uses it. Blocks until its thread has ended if nobody does.
    pub(crate) fn forget(&self, name: &ModelId) {
        let forgotten = self.slots().remove(name).map(|slot| (slot, self.0.departures.begin()));
        self.0.uses.forget(name);
        // Outside the lock: if nobody uses the model, this waits for its thread.
        drop(forgotten);
    }

    /// Forgets the models that are not among these, and unloads each as soon as nobody uses it.
    pub(crate) fn forget_all_but(&self, installed: &[Installed]) {
        let is_gone = |name: &ModelId| installed.iter().all(|model| model.name != *name);
        let gone: Vec<_> = {
            let mut slots = self.slots();
            let names: Vec<ModelId> = slots.keys().filter(|name| is_gone(name)).cloned().collect();
            names.iter().for_each(|name| self.0.uses.forget(name));
            let take = |name| Some((slots.remove(&name)?, self.0.departures.begin()));
            names.into_iter().filter_map(take).collect()
        };
        if !gone.is_empty() {
            // If nobody uses a model, this waits for its thread.
            tokio::task::spawn_blocking(move || drop(gone));
        }
    }

    /// Forgets a model whose thread is gone, so that its next use loads it anew.
    pub(crate) fn reconsider(&self, lease: &Lease, error: &hub_models::Error) {
        let is_its = |slot: &Arc<Slot>| Arc::ptr_eq(slot, lease.slot());
        if matches!(error, hub_models::Error::ModelGone) && self.slots().get(lease.name()).is_some_and(is_its)
        {
            self.forget(lease.name());
        }
    }

    /// Unloads a model as soon as nobody uses it.
    pub(crate) fn let_go(&self, name: &ModelId) {
        if let Some(slot) = self.slots().get(name) {
            slot.keep_for(KeepAlive::For(Duration::ZERO));
        }
        self.0.changed.notify_one();
    }

    /// Tells whether a model is in memory.
    pub(crate) fn is_loaded(&self, name: &ModelId) -> bool {
        self.slots().get(name).is_some_and(|slot| slot.is_loaded())
    }

    /// Whether a model is in memory, or on its way there.
    fn has(&self, name: &ModelId) -> bool {
        self.slots().contains_key(name)
    }

    /// Lists the models in memory, by name.
    pub(crate) fn loaded(&self) -> Vec<LoadedModel> {
        let slots = self.slots();
        let mut loaded: Vec<_> = slots.iter().filter_map(|(name, slot)| slot.describe(name)).collect();
        loaded.sort_by(|a, b| a.name.cmp(&b.name));
        loaded
    }

    /// Lists the models that are being loaded, by name.
    pub(crate) fn loading(&self) -> Vec<LoadingModel> {
        let slots = self.slots();
        let mut loading: Vec<_> =
            slots.iter().filter_map(|(name, slot)| Some(slot.loading_state()?.describe(name))).collect();
        loading.sort_by(|a, b| a.name.cmp(&b.name));
        loading
    }

    /// Returns the device that models run on.
    pub(crate) fn device(&self) -> &Device {
        &self.0.device
    }

    /// Refuses new uses and stops loads, waits up to `grace` for answers that go on, cuts off the rest, and unloads
    /// every model.
    pub(crate) async fn close(&self, grace: Duration) {
        self.0.is_closed.store(true, Ordering::Release);
        self.0.cancel.cancel();
        if !self.drained(grace).await {
            tracing::warn!("answers that still run are cut off");
            self.0.cut.send_replace(true);
            if !self.drained(CUT).await {
                tracing::warn!("models are unloaded while requests still use them");
            }
        }
        let slots = std::mem::take(&mut *self.slots());
        // Unloading waits for the models' threads. The runtime may be going away as well, and then nobody waits.
        let _ = blocking(move || slots.values().for_each(|slot| drop(slot.unload()))).await;
    }

    /// Waits until nobody uses a model, for `patience` at most; tells whether it came to that.
    async fn drained(&self, patience: Duration) -> bool {
        let drained = async {
            loop {
                let freed = self.0.freed.notified();
                if self.slots().values().all(|slot| !slot.is_used()) {
                    return;
                }
                freed.await;
            }
        };
        tokio::time::timeout(patience, drained).await.is_ok()
    }

    /// Begins to use a model, loaded or not.
    fn hold(&self, installed: &Installed, keep_alive: Option<KeepAlive>) -> Result<Hold> {
        if self.0.is_closed.load(Ordering::Acquire) {
            return Err(Error::ShuttingDown);
        }
        let mut slots = self.slots();
        // A model that was removed and imported again, by this process or another, is another model.
        let is_stale =
            slots.get(&installed.name).is_some_and(|slot| slot.version() != installed.created_at_ms);
        let stale = is_stale.then(|| (slots.remove(&installed.name), self.0.departures.begin()));
        let slot = slots.entry(installed.name.clone()).or_insert_with(|| self.new_slot(installed));
        let hold = Hold::new(Arc::clone(slot), keep_alive.unwrap_or(self.0.keep_alive));
        drop(slots);
        if let Some(stale) = stale {
            // If nobody uses the old model, this waits for its thread.
            tokio::task::spawn_blocking(move || drop(stale));
        }
        Ok(hold)
    }

    fn new_slot(&self, installed: &Installed) -> Arc<Slot> {
        let (name, uses) = (installed.name.clone(), Arc::clone(&self.0.uses));
        Arc::new(Slot::new(name, installed.created_at_ms, uses, self.wakers()))
    }

    /// Returns who is woken when a use of a model ends.
    fn wakers(&self) -> [Arc<Notify>; 2] {
        [Arc::clone(&self.0.freed), Arc::clone(&self.0.changed)]
    }

    /// What the lock guards is whole between any two statements, so a poisoned one is as good as any.
    fn slots(&self) -> MutexGuard<'_, HashMap<ModelId, Arc<Slot>>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    /// Ends the task that unloads models.
    fn drop(&mut self) {
        self.changed.notify_one();
    }
}

/// Says of files that were there at the import, and are not now, what can be done about it.
pub(crate) fn explained(installed: &Installed, error: Error) -> Error {
    match (error, &installed.path) {
        (Error::Models(source), Some(path)) if source.kind() == ErrorKind::NotFound => {
            Error::Gone { name: installed.name.clone(), path: path.clone(), source: Box::new(source) }
        }
        (error, _) => error,
    }
}

/// Finds the refusal of the memory account among the causes of an error.
fn over_budget(error: &Error) -> Option<OverBudget> {
    let mut cause: Option<&dyn StdError> = Some(error);
    while let Some(error) = cause {
        if let Some(over) = error.downcast_ref::<OverBudget>() {
            return Some(*over);
        }
        cause = error.source();
    }
    None
}
