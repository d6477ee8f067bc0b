use std::{
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hub::{PullEvent, PullStage};
use hub_base::Size;

use crate::output::complain;

/// How often the line changes at most.
const STEP: Duration = Duration::from_millis(100);
/// Begins the line anew and clears it.
const CLEAR: &str = "\r\x1b[K";

/// A line on the terminal that says how far a pull has come; plain lines in a pipe. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    is_terminal: bool,
    last: Arc<Mutex<Option<Instant>>>,
}

impl Bar {
    pub(super) fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), last: Arc::default() }
    }

    /// Shows an event.
    pub(super) fn show(&self, event: &PullEvent) {
        match event {
            PullEvent::Plan { files, bytes, missing_bytes, reason } => {
                let here = if missing_bytes < bytes {
                    format!(", {} of it here already", Size(bytes - missing_bytes))
                } else {
                    String::new()
                };
                let files =
                    if files.len() == 1 { "1 file".to_owned() } else { format!("{} files", files.len()) };
                complain(&format!("{} in {files}{here}: {reason}", Size(*bytes)));
            }
            PullEvent::File { file, stage: PullStage::Done, total, .. } => {
                self.clear();
                complain(&format!("{file}: {} here and whole", Size(*total)));
            }
            event if self.is_terminal && self.is_due() => write(&format!("{CLEAR}{}", line(event))),
            _ => {}
        }
    }

    /// Clears the line.
    pub(super) fn clear(&self) {
        if self.is_terminal {
            write(CLEAR);
        }
    }

    fn is_due(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= STEP);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

/// Writes how far a file has come, at what speed, and how long it may still take.
fn line(event: &PullEvent) -> String {
    const WIDTH: u64 = 24;
    let PullEvent::File { file, stage, done, total, bytes_per_s } = event else { return String::new() };
    let share =
        |of: u64| (u128::from(*done.min(total)) * u128::from(of) / u128::from((*total).max(1))) as u64;
    let full = share(WIDTH) as usize;
    let bar = format!("[{}{}] {:>3} %", "#".repeat(full), "-".repeat(WIDTH as usize - full), share(100));
    // A registry may call a file anything.
    let file: String = file
        .chars()
        .filter(|c| !c.is_control())
        .rev()
        .take(40)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    match stage {
        PullStage::Waiting => format!("{file}: another program fetches it; waiting"),
        PullStage::Verifying => format!("{file} {bar}  verifying"),
        _ if *bytes_per_s > 0.0 => {
            let left = Duration::from_secs_f64((total - done.min(total)) as f64 / bytes_per_s);
            format!("{file} {bar}  {}/s  {} left", Size(*bytes_per_s as u64), clock(left))
        }
        _ => format!("{file} {bar}"),
    }
}

/// Writes a time as a clock does: `1:05`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..3_600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60),
    }
}

fn write(text: &str) {
    let mut err = io::stderr().lock();
    // A line that cannot be shown is no reason to stop the work.
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(stage: PullStage, done: u64, bytes_per_s: f64) -> PullEvent {
        PullEvent::File { file: "m.gguf".to_owned(), stage, done, total: 4 << 20, bytes_per_s }
    }

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let half = line(&event(PullStage::Fetching, 2 << 20, 1_048_576.0));
        assert_eq!(half, "m.gguf [############------------]  50 %  1.0 MiB/s  0:02 left");
        assert!(line(&event(PullStage::Fetching, u64::MAX, 0.0)).ends_with("100 %"));
        assert!(line(&event(PullStage::Waiting, 0, 0.0)).ends_with("waiting"));
    }

    #[test]
    fn times_read_like_clocks() {
        assert_eq!(
            [5, 65, 3_725].map(|seconds| clock(Duration::from_secs(seconds))),
            ["0:05", "1:05", "1:02:05"]
        );
    }
}
