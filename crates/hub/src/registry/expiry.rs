//! Models leave when nobody has used them for as long as they are kept.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use super::{Registry, Shared, departures::Departure};

/// Between two looks if nothing happens.
const LONG: Duration = Duration::from_secs(60 * 60);

impl Registry {
    /// Unloads models that are kept no longer, for as long as the registry lives. To be called within a runtime.
    pub(super) fn expire_models(&self) {
        let shared = Arc::downgrade(&self.0);
        let changed = Arc::clone(&self.0.changed);
        tokio::spawn(async move {
            while let Some(next) = look(&shared).await {
                let wait = next.map_or(LONG, |next| next.saturating_duration_since(Instant::now()));
                // A change that came before this waits is remembered.
                let _ = tokio::time::timeout(wait.min(LONG), changed.notified()).await;
            }
        });
    }

    /// Takes out the models whose time is over; they are unloaded when what is returned is dropped.
    fn take_expired(&self, now: Instant) -> Vec<(super::Loaded, Departure)> {
        let slots = self.slots();
        let is_due = |slot: &super::Slot| slot.expires_at().is_some_and(|at| at <= now);
        let due = slots.iter().filter(|(_, slot)| is_due(slot));
        // Under the lock, so that nobody begins to use one between the choice and the act.
        due.filter_map(|(name, slot)| {
            let model = slot.unload()?;
            tracing::info!(model = %name, "unloaded, it was not used for as long as it is kept");
            Some((model, self.0.departures.begin()))
        })
        .collect()
    }
}

/// Unloads what is due, and returns when the next model is; `None` once the registry is gone.
async fn look(shared: &Weak<Shared>) -> Option<Option<Instant>> {
    let registry = Registry(shared.upgrade()?);
    let expired = registry.take_expired(Instant::now());
    if !expired.is_empty() {
        // This waits for the models' threads.
        let _ = tokio::task::spawn_blocking(move || drop(expired)).await;
    }
    let next = registry.slots().values().filter_map(|slot| slot.expires_at()).min();
    Some(next)
}
