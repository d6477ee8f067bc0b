/// Waits until the program is told to stop: Ctrl-C.
pub(crate) async fn told_to_stop() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Nobody can tell it anything, so it goes on.
        std::future::pending().await
    }
}
