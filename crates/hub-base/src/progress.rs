use std::{fmt, sync::Arc};

/// How far a long piece of work has come.
///
/// `done` and `total` count the same thing (bytes while a model is read). `total` is 0 where it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is done now, in a word or two: `"reading weights"`.
    pub stage: &'static str,
    /// How much is done.
    pub done: u64,
    /// How much there is in all.
    pub total: u64,
}

/// Where progress is sent; the default goes nowhere.
///
/// The sink runs on the thread that does the work, so it must return quickly.
#[derive(Clone, Default)]
pub struct ProgressSink(Option<Arc<dyn Fn(Progress) + Send + Sync>>);

impl ProgressSink {
    /// Sends every event to `sink`.
    pub fn new(sink: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(sink)))
    }

    /// Reports one event.
    pub fn report(&self, event: Progress) {
        if let Some(sink) = &self.0 {
            sink(event);
        }
    }
}

impl fmt::Debug for ProgressSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "ProgressSink(..)" } else { "ProgressSink(none)" })
    }
}
