use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits until the program is told to stop: Ctrl-C, or what supervisors send.
///
/// It hears from the call on, not from the first time it is polled.
pub(crate) fn told_to_stop() -> impl Future<Output = ()> + Send + 'static {
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async {
        tokio::select! {
            () = heard(interrupt) => {}
            () = heard(terminate) => {}
        }
    }
}

async fn heard(signals: io::Result<Signal>) {
    match signals {
        Ok(mut signals) => drop(signals.recv().await),
        // This one cannot be told, so that it is never heard.
        Err(_) => std::future::pending().await,
    }
}
