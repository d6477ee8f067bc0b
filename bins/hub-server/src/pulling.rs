use std::{
    convert::Infallible,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::Response,
};
use futures_core::{Stream, future::BoxFuture};
use hub::{Hub, Installed, PullEvent, PullRequest, PullSink};
use tokio::sync::mpsc;

use crate::error::ApiError;

/// How many events may wait for a slow reader; later ones say more than those that are dropped.
const MAX_WAITING: usize = 64;

/// How an API tells of a pull.
pub(crate) trait Words {
    /// What the lines are.
    const CONTENT_TYPE: &'static str;

    /// Writes how far the pull has come.
    fn event(event: PullEvent, out: &mut Vec<u8>);

    /// Writes that the model is there.
    fn done(model: Installed, out: &mut Vec<u8>);

    /// Writes what the pull failed of.
    fn fail(error: &ApiError, out: &mut Vec<u8>);
}

/// Answers with the events of a pull while it goes on. A client that leaves stops it; what arrived is kept.
pub(crate) fn respond<W: Words + Send + Unpin + 'static>(hub: Hub, mut request: PullRequest) -> Response {
    let (tx, events) = mpsc::channel(MAX_WAITING);
    request.events = PullSink::new(move |event| {
        // Full: the reader is slow, and the next event replaces this one. Closed: nobody reads.
        let _ = tx.try_send(event);
    });
    let pull = Box::pin(async move { hub.pull(request).await });
    let lines = Lines::<W> { pull: Some(pull), events, words: PhantomData };
    let mut response = Response::new(Body::from_stream(lines));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(W::CONTENT_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// The events of a pull, then the model or an error. Dropping it stops the pull.
struct Lines<W> {
    pull: Option<BoxFuture<'static, hub::Result<Installed>>>,
    events: mpsc::Receiver<PullEvent>,
    words: PhantomData<W>,
}

impl<W: Words + Unpin> Stream for Lines<W> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(pull) = &mut self.pull else { return Poll::Ready(None) };
        let ended = pull.as_mut().poll(cx);
        let mut out = Vec::new();
        while let Poll::Ready(Some(event)) = self.events.poll_recv(cx) {
            W::event(event, &mut out);
        }
        match ended {
            Poll::Ready(Ok(model)) => {
                W::done(model, &mut out);
                self.pull = None;
            }
            Poll::Ready(Err(error)) => {
                W::fail(&ApiError::from(error), &mut out);
                self.pull = None;
            }
            Poll::Pending if out.is_empty() => return Poll::Pending,
            Poll::Pending => {}
        }
        Poll::Ready(Some(Ok(out.into())))
    }
}
