use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hub_base::{Progress, ProgressSink};

/// What takes less is over before anybody reads of it.
const QUIET: Duration = Duration::from_secs(1);
/// How often the line changes at most.
const STEP: Duration = Duration::from_millis(100);
/// Begins the line anew and clears it.
const CLEAR: &str = "\r\x1b[K";

/// A line on the terminal that says how far a piece of work has come; nothing in a pipe.
///
/// It is cleared when this is dropped.
#[derive(Debug)]
pub(crate) struct ProgressLine {
    is_terminal: bool,
    is_shown: Arc<AtomicBool>,
}

/// When a line was begun, and when it last changed.
#[derive(Debug)]
struct Line {
    start: Instant,
    last: Option<Instant>,
}

impl ProgressLine {
    pub(crate) fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), is_shown: Arc::default() }
    }

    /// Returns where the work sends its progress.
    pub(crate) fn sink(&self) -> ProgressSink {
        if !self.is_terminal {
            return ProgressSink::default();
        }
        let line = Mutex::new(Line { start: Instant::now(), last: None });
        let is_shown = Arc::clone(&self.is_shown);
        ProgressSink::new(move |progress| {
            // Two threads that report at once need not both be shown.
            if let Ok(mut line) = line.try_lock()
                && line.is_due()
            {
                is_shown.store(true, Ordering::Relaxed);
                write(&format!("{CLEAR}{}", text(progress)));
            }
        })
    }
}

impl Line {
    /// Tells whether the line may change now, and notes that it does.
    fn is_due(&mut self) -> bool {
        let is_due = self.start.elapsed() >= QUIET && self.last.is_none_or(|last| last.elapsed() >= STEP);
        if is_due {
            self.last = Some(Instant::now());
        }
        is_due
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.is_shown.load(Ordering::Relaxed) {
            write(CLEAR);
        }
    }
}

/// Writes one line: a bar where the end is known.
fn text(Progress { stage, done, total }: Progress) -> String {
    const WIDTH: u64 = 24;
    if total == 0 {
        return format!("{stage} …");
    }
    let full = (u128::from(done.min(total)) * u128::from(WIDTH) / u128::from(total)) as usize;
    let percent = u128::from(done.min(total)) * 100 / u128::from(total);
    format!("{stage} [{}{}] {percent} %", "#".repeat(full), "-".repeat(WIDTH as usize - full))
}

fn write(text: &str) {
    let mut err = io::stderr().lock();
    // A line that cannot be shown is no reason to stop the work.
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_and_never_overflows() {
        let half = text(Progress { stage: "reading weights", done: 50, total: 100 });
        assert_eq!(half, "reading weights [############------------] 50 %");
        let over = text(Progress { stage: "x", done: u64::MAX, total: 3 });
        assert_eq!(over, "x [########################] 100 %");
        assert_eq!(text(Progress { stage: "x", done: 5, total: 0 }), "x …");
    }
}
