use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How far a file has come.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Event<'a> {
    /// Its name in the repository.
    pub file: &'a str,
    /// What is done with it.
    pub stage: Stage,
    /// Bytes done, those of earlier runs included.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
    /// Bytes a second that came in during the last seconds; 0 before that is known.
    pub bytes_per_s: f64,
}

/// What is done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Another process fetches it; its end is waited for.
    Waiting,
    /// Its bytes come in.
    Fetching,
    /// Its digest is computed.
    Verifying,
    /// It is there, whole and verified.
    Done,
}

/// Where events are sent. It is called from several threads, and must return quickly.
pub type Sink<'a> = &'a (dyn Fn(Event<'_>) + Sync);

/// Counts the bytes of one file and tells a sink, a few times a second.
pub(crate) struct Counter<'a> {
    file: &'a str,
    total: u64,
    done: AtomicU64,
    sink: Sink<'a>,
    pace: Mutex<Pace>,
}

struct Pace {
    told: Instant,
    /// What was done at some moment of the last seconds.
    since: Instant,
    since_bytes: u64,
    bytes_per_s: f64,
}

/// How often a sink is told.
const STEP: Duration = Duration::from_millis(100);
/// Over how long a speed is measured.
const WINDOW: Duration = Duration::from_secs(3);

impl<'a> Counter<'a> {
    pub(crate) fn new(file: &'a str, total: u64, sink: Sink<'a>) -> Self {
        let now = Instant::now();
        let pace = Pace { told: now, since: now, since_bytes: 0, bytes_per_s: 0.0 };
        Self { file, total, done: AtomicU64::new(0), sink, pace: Mutex::new(pace) }
    }

    /// Begins at what is there already.
    pub(crate) fn begin(&self, stage: Stage, done: u64) {
        self.done.store(done, Ordering::Relaxed);
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        *pace = Pace { told: now, since: now, since_bytes: done, bytes_per_s: 0.0 };
        self.tell(stage, done, 0.0);
    }

    /// Counts bytes that came in.
    pub(crate) fn add(&self, stage: Stage, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // Two threads that report at once need not both be heard.
        let Ok(mut pace) = self.pace.try_lock() else { return };
        let now = Instant::now();
        if now.duration_since(pace.told) < STEP {
            return;
        }
        pace.told = now;
        let window = now.duration_since(pace.since);
        if window >= WINDOW || pace.bytes_per_s == 0.0 {
            pace.bytes_per_s = done.saturating_sub(pace.since_bytes) as f64 / window.as_secs_f64().max(1e-3);
        }
        if window >= WINDOW {
            (pace.since, pace.since_bytes) = (now, done);
        }
        self.tell(stage, done, pace.bytes_per_s);
    }

    /// Takes back bytes that have to be fetched again.
    pub(crate) fn restart(&self) {
        self.done.store(0, Ordering::Relaxed);
    }

    pub(crate) fn tell(&self, stage: Stage, done: u64, bytes_per_s: f64) {
        (self.sink)(Event { file: self.file, stage, done, total: self.total, bytes_per_s });
    }
}
