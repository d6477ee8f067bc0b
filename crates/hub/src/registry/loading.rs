//! How far the loads that go on have come.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hub_base::{ModelId, Progress, ProgressSink};
use serde::Serialize;

/// A model that is being loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct LoadingModel {
    /// Its name.
    pub name: ModelId,
    /// What is done now, in a word or two.
    pub stage: &'static str,
    /// How much is done of `total`.
    pub done: u64,
    /// How much there is; 0 where that is not known.
    pub total: u64,
    /// Since when, in milliseconds.
    pub elapsed_ms: u64,
}

/// The state of one load. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Loading(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    start: Instant,
    last: Progress,
    /// When a line of the log said so last.
    logged: Option<Instant>,
}

/// What takes less is over before anybody reads of it.
const QUIET: Duration = Duration::from_secs(1);
/// Between two lines of the log.
const STEP: Duration = Duration::from_secs(5);

impl Loading {
    /// Notes that a load begins.
    pub(super) fn begin() -> Self {
        let last = Progress { stage: "opening", done: 0, total: 0 };
        Self(Arc::new(Mutex::new(State { start: Instant::now(), last, logged: None })))
    }

    /// Returns a sink that notes each event, writes some of them to the log, and hands all on to `sink`.
    pub(super) fn watch(&self, name: &ModelId, sink: ProgressSink) -> ProgressSink {
        let (state, name) = (Arc::clone(&self.0), name.clone());
        ProgressSink::new(move |event| {
            let is_due = state.lock().unwrap_or_else(PoisonError::into_inner).note(event);
            if is_due {
                let percent = event.done.saturating_mul(100).checked_div(event.total);
                tracing::info!(model = %name, stage = event.stage, percent, "loading");
            }
            sink.report(event);
        })
    }

    pub(super) fn describe(&self, name: &ModelId) -> LoadingModel {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Progress { stage, done, total } = state.last;
        let elapsed_ms = u64::try_from(state.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        LoadingModel { name: name.clone(), stage, done, total, elapsed_ms }
    }

    /// Returns since when it goes on.
    pub(super) fn elapsed(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).start.elapsed()
    }
}

impl State {
    /// Notes an event, and tells whether the log should say so.
    fn note(&mut self, event: Progress) -> bool {
        self.last = event;
        let is_due =
            self.start.elapsed() >= QUIET && self.logged.is_none_or(|logged| logged.elapsed() >= STEP);
        if is_due {
            self.logged = Some(Instant::now());
        }
        is_due
    }
}
