use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::os;

/// Watches how much memory the process holds, ten times a second and at both ends.
pub(super) struct PeakWatch {
    peak: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl PeakWatch {
    pub(super) fn start() -> Self {
        let (peak, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, over) = (Arc::clone(&peak), Arc::clone(&is_over));
        let look = move || {
            while !over.load(Ordering::Acquire) {
                seen.fetch_max(os::resident_bytes().unwrap_or(0), Ordering::AcqRel);
                thread::park_timeout(Duration::from_millis(100));
            }
        };
        Self { peak, is_over, thread: thread::spawn(look) }
    }

    pub(super) fn stop(self) -> f64 {
        self.is_over.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // A watcher that panicked has seen what it has seen.
        let _ = self.thread.join();
        let now = os::resident_bytes().unwrap_or(0);
        self.peak.load(Ordering::Acquire).max(now) as f64
    }
}
