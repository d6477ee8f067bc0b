//! `POST /hub/v1/models/pull`: fetches a model, and streams how far it has come.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::Response,
    routing::on,
};
use futures_core::{Stream, future::BoxFuture};
use hub::{Hub, Installed, PullEvent, PullRequest, PullSink};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    body::JsonBody,
    error::ApiError,
    fields::Fields,
    json,
    openapi::{Body, Example, Fails, Group, Operation, Verb},
    sse::write_event,
};

/// How many events may wait for a slow reader; later ones say more than those that are dropped.
const MAX_WAITING: usize = 64;

pub(super) static PULL: Operation = Operation {
    verb: Verb::Post,
    path: "/hub/v1/models/pull",
    group: Group::Hub,
    summary: "Fetches a model from where people share them",
    route: |method| on(method, pull),
    body: Some(Body { read: |fields| read(fields).map(drop), examples: EXAMPLES }),
    fails: Fails::Model,
    answers: |answers| {
        answers.json::<Installed>().stream::<Event>("text/event-stream");
    },
};

static EXAMPLES: &[Example] = &[Example {
    name: "A model of Hugging Face",
    body: || json!({"source": "hf:Qwen/Qwen3-0.6B-GGUF:Q8_0", "name": "qwen3-0.6b"}),
}];

/// Reads what to pull, and whether its events are streamed.
fn read(mut fields: Fields) -> Result<(PullRequest, bool), ApiError> {
    let mut request = PullRequest::new(fields.require::<String>("source")?);
    request.name = fields.take("name")?;
    request.sha256 = fields.take("sha256")?;
    let is_stream = fields.take("stream")?.unwrap_or(true);
    fields.finish(&[])?;
    Ok((request, is_stream))
}

async fn pull(State(hub): State<Hub>, JsonBody(fields): JsonBody) -> Result<Response, ApiError> {
    let (mut request, is_stream) = read(fields)?;
    if !is_stream {
        let model = hub.pull(request).await?;
        return Ok(json::response(StatusCode::OK, json::to_vec(&model)));
    }
    let (tx, events) = mpsc::channel(MAX_WAITING);
    request.events = PullSink::new(move |event| {
        // Full: the reader is slow, and the next event replaces this one. Closed: nobody reads.
        let _ = tx.try_send(event);
    });
    let pull = Box::pin(async move { hub.pull(request).await });
    let mut response = Response::new(axum::body::Body::from_stream(Events { pull: Some(pull), events }));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// What is streamed while a model is pulled.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "PullProgress")]
#[serde(untagged)]
enum Event {
    /// How far it has come.
    Progress(PullEvent),
    /// The model, at the end.
    Model(Pulled),
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "PulledModel")]
#[serde(tag = "event", rename = "model")]
struct Pulled {
    model: Installed,
}

/// The events of a pull, then the model or an `error` event. Dropping it stops the pull; what arrived is kept.
struct Events {
    pull: Option<BoxFuture<'static, hub::Result<Installed>>>,
    events: mpsc::Receiver<PullEvent>,
}

impl Stream for Events {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(pull) = &mut self.pull else { return Poll::Ready(None) };
        let ended = pull.as_mut().poll(cx);
        let mut out = Vec::new();
        while let Poll::Ready(Some(event)) = self.events.poll_recv(cx) {
            write_event(&mut out, &Event::Progress(event));
        }
        match ended {
            Poll::Ready(Ok(model)) => {
                write_event(&mut out, &Event::Model(Pulled { model }));
                out.extend_from_slice(b"data: [DONE]\n\n");
                self.pull = None;
            }
            Poll::Ready(Err(error)) => {
                out.extend_from_slice(b"event: error\ndata: ");
                out.extend_from_slice(&ApiError::from(error).envelope());
                out.extend_from_slice(b"\n\n");
                self.pull = None;
            }
            Poll::Pending if out.is_empty() => return Poll::Pending,
            Poll::Pending => {}
        }
        Poll::Ready(Some(Ok(out.into())))
    }
}
