//! `POST /hub/v1/models/pull`: fetches a model, and streams how far it has come.

use axum::{extract::State, http::StatusCode, response::Response, routing::on};
use hub::{Hub, Installed, PullEvent, PullRequest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    body::JsonBody,
    error::ApiError,
    fields::Fields,
    json,
    openapi::{Body, Example, Fails, Group, Operation, Verb},
    pulling::{self, Words},
    sse::write_event,
};

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

/// What the bytes at an address must hash to.
#[derive(Deserialize, JsonSchema)]
struct Digits(#[schemars(regex(pattern = r"^(sha256:)?[0-9A-Fa-f]{64}$"))] String);

/// Reads what to pull, and whether its events are streamed.
fn read(mut fields: Fields) -> Result<(PullRequest, bool), ApiError> {
    let mut request = PullRequest::new(fields.require::<String>("source")?);
    request.name = fields.take("name")?;
    request.sha256 = fields.take::<Digits>("sha256")?.map(|digits| digits.0);
    let is_stream = fields.take("stream")?.unwrap_or(true);
    fields.finish(&[])?;
    Ok((request, is_stream))
}

async fn pull(State(hub): State<Hub>, JsonBody(fields): JsonBody) -> Result<Response, ApiError> {
    let (request, is_stream) = read(fields)?;
    if !is_stream {
        let model = hub.pull(request).await?;
        return Ok(json::response(StatusCode::OK, json::to_vec(&model)));
    }
    pulling::respond::<Events>(hub, request).await
}

/// What is streamed while a model is pulled.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "PullProgress")]
#[serde(untagged)]
enum Event {
    /// How far it has come.
    Progress(PullEvent),
    /// The model, at the end.
    Model(Box<Pulled>),
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "PulledModel")]
#[serde(tag = "event", rename = "model")]
struct Pulled {
    model: Installed,
}

/// The events of a pull, then the model or an `error` event.
struct Events;

impl Words for Events {
    const CONTENT_TYPE: &'static str = "text/event-stream";
    const PING: &'static str = ": ping\n\n";

    fn event(event: PullEvent, out: &mut Vec<u8>) {
        write_event(out, &Event::Progress(event));
    }

    fn done(model: Installed, out: &mut Vec<u8>) {
        write_event(out, &Event::Model(Box::new(Pulled { model })));
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn fail(error: &ApiError, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: error\ndata: ");
        out.extend_from_slice(&error.envelope());
        out.extend_from_slice(b"\n\n");
    }
}
