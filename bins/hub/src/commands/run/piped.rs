use std::{
    io::{self, Read},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use crate::{failure::Failure, os, output::complain};

/// How long the first piece may take. Programs that start this one often leave a pipe open that nobody writes to.
const PATIENCE: Duration = Duration::from_secs(3);

/// The longest text that is read.
const MAX_BYTES: u64 = 64 << 20;

/// Reads what is piped in beside a prompt; `None` if there is nothing.
///
/// # Errors
/// [`Failure::Input`] if it cannot be read, or is no text.
pub(super) fn read() -> Result<Option<String>, Failure> {
    if !os::is_piped() {
        return Ok(None);
    }
    let (tx, rx) = mpsc::sync_channel(1);
    let read = move || {
        let mut first = [0; 1];
        let mut input = io::stdin().lock();
        let is_over = matches!(input.read(&mut first), Ok(0) | Err(_));
        // Fails if the patience has ended: nobody waits for the rest then.
        if tx.send(Ok(String::new())).is_err() || is_over {
            return;
        }
        let mut bytes = first.to_vec();
        let read = input.take(MAX_BYTES).read_to_end(&mut bytes);
        let text = read.and_then(|_| String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into()));
        let _ = tx.send(text);
    };
    thread::spawn(read);
    match rx.recv_timeout(PATIENCE) {
        Ok(_begun) => match rx.recv() {
            Ok(text) => text.map(Some).map_err(Failure::Input),
            Err(_) => Ok(None),
        },
        Err(RecvTimeoutError::Disconnected) => Ok(None),
        Err(RecvTimeoutError::Timeout) => {
            complain("note: nothing came on standard input, so only the prompt is asked");
            Ok(None)
        }
    }
}
