use std::{
    convert::Infallible,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use futures_core::{Stream, future::BoxFuture};
use hub::{Hub, Installed, PullEvent, PullRequest, PullSink, PullStage};
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep},
};

use crate::{error::ApiError, sse};

/// How many events may wait for a slow reader; later ones say more than those that are dropped.
const MAX_WAITING: usize = 64;

/// How an API tells of a pull.
pub(crate) trait Words {
    /// What the lines are.
    const CONTENT_TYPE: &'static str;
    /// What is sent while nothing happens.
    const PING: &'static str;

    /// Writes how far the pull has come.
    fn event(event: PullEvent, out: &mut Vec<u8>);

    /// Writes that the model is there.
    fn done(model: Installed, out: &mut Vec<u8>);

    /// Writes what the pull failed of.
    fn fail(error: &ApiError, out: &mut Vec<u8>);
}

/// How long the head waits for what the pull comes to: the plan, or an error.
const HEAD_AFTER: Duration = Duration::from_secs(10);
/// How long nothing may be sent.
const PING_EVERY: Duration = Duration::from_secs(10);

/// Answers with the events of a pull while it goes on. A client that leaves stops it; what arrived is kept.
///
/// # Errors
/// What the pull fails of before it has a plan.
pub(crate) async fn respond<W: Words + Send + Unpin + 'static>(
    hub: Hub,
    mut request: PullRequest,
) -> Result<Response, ApiError> {
    let (tx, mut events) = mpsc::channel(MAX_WAITING);
    request.events = PullSink::new(move |event| {
        let is_last = matches!(&event, PullEvent::File { stage: PullStage::Done, .. });
        // Closed: nobody reads. Full: the reader is slow, and the next event replaces this one, but for the last.
        let _ = if is_last { tx.blocking_send(event) } else { tx.try_send(event).or(Ok(())) };
    });
    let mut pull: BoxFuture<'static, _> = Box::pin(async move { hub.pull(request).await });
    let mut out = Vec::new();
    let mut open = None;
    tokio::select! {
        ended = &mut pull => {
            while let Ok(event) = events.try_recv() {
                W::event(event, &mut out);
            }
            W::done(ended?, &mut out);
        }
        event = events.recv() => {
            event.into_iter().for_each(|event| W::event(event, &mut out));
            open = Some(pull);
        }
        () = tokio::time::sleep(HEAD_AFTER) => open = Some(pull),
    }
    let ping = Box::pin(tokio::time::sleep(PING_EVERY));
    let lines = Lines::<W> { pull: open, events, out, ping, words: PhantomData };
    let mut response = Response::new(Body::from_stream(lines));
    sse::write_head(response.headers_mut(), W::CONTENT_TYPE);
    Ok(response)
}

/// The events of a pull, then the model or an error. Dropping it stops the pull.
struct Lines<W> {
    pull: Option<BoxFuture<'static, hub::Result<Installed>>>,
    events: mpsc::Receiver<PullEvent>,
    /// What is written and not sent.
    out: Vec<u8>,
    ping: Pin<Box<Sleep>>,
    words: PhantomData<W>,
}

impl<W: Words + Unpin> Stream for Lines<W> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(pull) = &mut this.pull {
            let ended = pull.as_mut().poll(cx);
            while let Poll::Ready(Some(event)) = this.events.poll_recv(cx) {
                W::event(event, &mut this.out);
            }
            if let Poll::Ready(ended) = ended {
                match ended {
                    Ok(model) => W::done(model, &mut this.out),
                    Err(error) => W::fail(&ApiError::from(error), &mut this.out),
                }
                this.pull = None;
            }
        }
        if this.out.is_empty() {
            if this.pull.is_none() {
                return Poll::Ready(None);
            }
            if this.ping.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.out.extend_from_slice(W::PING.as_bytes());
        }
        this.ping.as_mut().reset(Instant::now() + PING_EVERY);
        Poll::Ready(Some(Ok(std::mem::take(&mut this.out).into())))
    }
}
