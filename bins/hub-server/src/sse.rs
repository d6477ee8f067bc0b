use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::Response,
};
use futures_core::{Stream, future::BoxFuture};
use hub::models::Delta;
use serde::Serialize;
use tokio::time::{Instant, Sleep};

use crate::{answer::Answer, error::ApiError, json};

/// How long the head waits for the request to be placed and its model loaded, so that errors are plain HTTP.
const HEAD_AFTER: Duration = Duration::from_secs(10);

/// How often a comment keeps the connection alive while nothing is ready.
const PING_EVERY: Duration = Duration::from_secs(10);

/// How many bytes of events that are ready at once are sent together at most.
const MAX_BATCH_BYTES: usize = 16 << 10;

/// Writes an answer as the events of one operation: server-sent events, unless it says otherwise.
pub(crate) trait Chunks: Send + Unpin + 'static {
    /// What the body is.
    const CONTENT_TYPE: &'static str = "text/event-stream";
    /// What keeps the connection alive while nothing is ready.
    const PING: &'static str = ": ping\n\n";

    /// Writes what comes before the first piece of the answer of `model`.
    fn begin(&mut self, model: &str, out: &mut Vec<u8>);
    /// Writes a piece.
    fn piece(&mut self, delta: Delta, out: &mut Vec<u8>);

    /// Writes what comes after the last piece.
    fn end(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    /// Writes the error that ends the answer early.
    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: error\ndata: ");
        out.extend_from_slice(&error.envelope());
        out.extend_from_slice(b"\n\n");
    }
}

/// Writes one event.
pub(crate) fn write_event(out: &mut Vec<u8>, chunk: &impl Serialize) {
    out.extend_from_slice(b"data: ");
    json::write(out, chunk);
    out.extend_from_slice(b"\n\n");
}

/// Answers with a stream of events, once the request is placed or after ten seconds.
///
/// Nothing is buffered: the answer is asked for its next piece when the socket has room. Dropping the body stops the
/// generation.
///
/// # Errors
/// What the request is refused for before the head is sent; later it is an `error` event.
pub(crate) async fn respond<C: Chunks>(
    mut opening: BoxFuture<'static, Result<Answer, ApiError>>,
    mut chunks: C,
) -> Result<Response, ApiError> {
    let mut out = Vec::new();
    let mut response = Response::default();
    let headers = response.headers_mut();
    let phase = match tokio::time::timeout(HEAD_AFTER, &mut opening).await {
        Ok(answer) => {
            let answer = answer?;
            answer.write_headers(headers);
            chunks.begin(answer.model(), &mut out);
            Phase::Answering(Box::new(answer))
        }
        Err(_) => Phase::Opening(opening),
    };
    write_head(headers, C::CONTENT_TYPE);
    let ping = Box::pin(tokio::time::sleep(PING_EVERY));
    *response.body_mut() = Body::from_stream(Events { phase, chunks, out, ping });
    Ok(response)
}

/// Writes the headers of a stream, which ends its connection.
pub(crate) fn write_head(headers: &mut HeaderMap, content_type: &'static str) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    // Proxies of the nginx kind would hold small events back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
}

/// The events of an answer.
struct Events<C> {
    phase: Phase,
    chunks: C,
    /// Events that are written and not sent.
    out: Vec<u8>,
    ping: Pin<Box<Sleep>>,
}

enum Phase {
    Opening(BoxFuture<'static, Result<Answer, ApiError>>),
    Answering(Box<Answer>),
    Done,
}

impl<C: Chunks> Events<C> {
    /// Writes what is ready, as events.
    fn fill(&mut self, cx: &mut Context<'_>) {
        while self.out.len() < MAX_BATCH_BYTES {
            match &mut self.phase {
                Phase::Opening(opening) => match opening.as_mut().poll(cx) {
                    Poll::Ready(Ok(answer)) => {
                        self.chunks.begin(answer.model(), &mut self.out);
                        self.phase = Phase::Answering(Box::new(answer));
                    }
                    Poll::Ready(Err(error)) => self.fail(&error),
                    Poll::Pending => return,
                },
                Phase::Answering(answer) => match Pin::new(answer).poll_next(cx) {
                    Poll::Ready(Some(Ok(delta))) => self.chunks.piece(delta, &mut self.out),
                    Poll::Ready(Some(Err(error))) => self.fail(&error),
                    Poll::Ready(None) => {
                        self.chunks.end(&mut self.out);
                        self.phase = Phase::Done;
                    }
                    Poll::Pending => return,
                },
                Phase::Done => return,
            }
        }
    }

    fn fail(&mut self, error: &ApiError) {
        self.chunks.fail(error, &mut self.out);
        self.phase = Phase::Done;
    }
}

impl<C: Chunks> Stream for Events<C> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.fill(cx);
        if this.out.is_empty() {
            if matches!(this.phase, Phase::Done) {
                return Poll::Ready(None);
            }
            if this.ping.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.out.extend_from_slice(C::PING.as_bytes());
        }
        this.ping.as_mut().reset(Instant::now() + PING_EVERY);
        Poll::Ready(Some(Ok(Bytes::from(std::mem::take(&mut this.out)))))
    }
}
