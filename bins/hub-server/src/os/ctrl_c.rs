use tokio::signal::windows::ctrl_c;

/// Waits until the program is told to stop: Ctrl-C.
///
/// It hears from the call on, not from the first time it is polled.
pub(crate) fn told_to_stop() -> impl Future<Output = ()> + Send + 'static {
    let signals = ctrl_c();
    async {
        match signals {
            Ok(mut signals) => drop(signals.recv().await),
            // Nobody can tell it anything, so it goes on.
            Err(_) => std::future::pending().await,
        }
    }
}
