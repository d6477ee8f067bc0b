//! When models are used, and what it would cost to unload one.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hub_base::ModelId;
use hub_pool::Forecast;

/// What any load takes beside what it reads, in seconds: that a millisecond more decides nothing.
const ANY_LOAD: f64 = 0.5;
/// Loads are told apart by so many seconds.
const STEP: f64 = 0.1;

/// What is known of the uses of all models.
#[derive(Debug)]
pub(super) struct Uses {
    start: Instant,
    forecast: Mutex<Forecast<ModelId>>,
}

impl Uses {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), forecast: Mutex::default() }
    }

    pub(super) fn begins(&self, model: &ModelId) {
        self.forecast().begins(model, self.now());
    }

    pub(super) fn ends(&self, model: &ModelId) {
        self.forecast().ends(model, self.now());
    }

    pub(super) fn forget(&self, model: &ModelId) {
        self.forecast().forget(model);
    }

    /// Returns the expected cost of unloading a model whose load lasted so long, when `asked` is asked for.
    pub(super) fn cost(&self, model: &ModelId, asked: &ModelId, load: Duration) -> f64 {
        let load = ANY_LOAD + (load.as_secs_f64() / STEP).floor() * STEP;
        load * self.forecast().urgency(model, asked, self.now())
    }

    fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn forecast(&self) -> MutexGuard<'_, Forecast<ModelId>> {
        self.forecast.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
