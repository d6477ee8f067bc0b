use std::{
    fmt,
    future::{Future, pending},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::watch;

/// Ready once answers that still run are to be cut off.
pub(crate) struct Cut(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl Cut {
    pub(super) fn new(mut cut: watch::Receiver<bool>) -> Self {
        Self(Box::pin(async move {
            let is_cut = cut.wait_for(|is_cut| *is_cut).await.is_ok();
            // A hub that went away without a shutdown leaves its answers to their readers.
            if !is_cut {
                pending::<()>().await;
            }
        }))
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cut")
    }
}
