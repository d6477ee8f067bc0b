use tokio::signal::unix::{SignalKind, signal};

/// Waits until the program is told to stop: Ctrl-C, or what supervisors send.
pub(crate) async fn told_to_stop() {
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
    }
}

async fn wait(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signals) => drop(signals.recv().await),
        // This one cannot be told, so that it is never heard.
        Err(_) => std::future::pending().await,
    }
}
