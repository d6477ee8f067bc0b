use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Counters of one model, written by its thread and read by anyone.
#[derive(Debug)]
pub(crate) struct Stats {
    weight_bytes: AtomicU64,
    state_bytes: AtomicU64,
    running: AtomicU64,
    waiting: AtomicU64,
    forwards: AtomicU64,
    rows: AtomicU64,
    generated: AtomicU64,
    restarts: AtomicU64,
}

/// What a language model is doing, and has done since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Load {
    /// Bytes of its weights in memory.
    pub weight_bytes: u64,
    /// Bytes that running sequences keep between steps.
    pub state_bytes: u64,
    /// Sequences that share its steps.
    pub running: u64,
    /// Requests that wait to begin.
    pub waiting: u64,
    /// Passes over the weights so far.
    pub forwards: u64,
    /// Rows those passes carried.
    pub rows: u64,
    /// Tokens generated so far.
    pub generated_tokens: u64,
    /// How often a step failed so badly that the model was loaded again.
    pub restarts: u64,
}

impl Stats {
    pub(super) fn new(weight_bytes: u64) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            weight_bytes: AtomicU64::new(weight_bytes),
            state_bytes: zero(),
            running: zero(),
            waiting: zero(),
            forwards: zero(),
            rows: zero(),
            generated: zero(),
            restarts: zero(),
        }
    }

    pub(crate) fn read(&self) -> Load {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Load {
            weight_bytes: get(&self.weight_bytes),
            state_bytes: get(&self.state_bytes),
            running: get(&self.running),
            waiting: get(&self.waiting),
            forwards: get(&self.forwards),
            rows: get(&self.rows),
            generated_tokens: get(&self.generated),
            restarts: get(&self.restarts),
        }
    }

    /// Counts one more request that waits, unless `limit` do.
    pub(super) fn enqueue(&self, limit: usize) -> bool {
        let grow = |waiting: u64| (waiting < limit as u64).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_ok()
    }

    pub(super) fn dequeue(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn step(&self, rows: usize) {
        self.forwards.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(super) fn generate(&self) {
        self.generated.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn occupy(&self, running: usize, state_bytes: u64) {
        self.running.store(running as u64, Ordering::Relaxed);
        self.state_bytes.store(state_bytes, Ordering::Relaxed);
    }

    pub(super) fn restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn weigh(&self, bytes: u64) {
        self.weight_bytes.store(bytes, Ordering::Relaxed);
    }
}
