//! `/api/pull`

use axum::{extract::State, http::StatusCode, response::Response, routing::on};
use hub::{Hub, Installed, PullEvent, PullRequest, PullStage};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::models::take_name;
use crate::{
    body::JsonBody,
    error::ApiError,
    fields::{Fields, Idle, Unserved},
    json,
    openapi::{Body, Example, Fails, Group, Operation, Verb},
    pulling::{self, Words},
};

/// Secrets of Ollama's own registry, which nobody here has.
static UNSERVED: &[Unserved] = &[
    Unserved { name: "insecure", idle: Idle::False },
    Unserved { name: "username", idle: Idle::Words(&[""]) },
    Unserved { name: "password", idle: Idle::Words(&[""]) },
];

pub(super) static PULL: Operation = Operation {
    verb: Verb::Post,
    path: "/api/pull",
    group: Group::Ollama,
    summary: "Fetches a model from the Ollama registry, or from Hugging Face",
    route: |method| on(method, pull),
    body: Some(Body {
        read: |fields| read(fields).map(drop),
        examples: &[Example { name: "A model", body: || json!({"model": "llama3.2:1b"}) }],
    }),
    fails: Fails::Model,
    answers: |answers| {
        answers.json::<Line>().stream::<Line>("application/x-ndjson");
    },
};

/// Reads what to pull, and whether its progress is streamed.
fn read(mut fields: Fields) -> Result<(PullRequest, bool), ApiError> {
    let name = take_name(&mut fields)?;
    let is_stream = fields.take("stream")?.unwrap_or(true);
    fields.finish(&[UNSERVED])?;
    // Ollama takes names of its own registry, and those of Hugging Face's pages.
    let is_source = ["hf:", "hf.co/", "huggingface.co/", "ollama:"].iter().any(|word| name.starts_with(word));
    Ok((PullRequest::new(if is_source { name } else { format!("ollama:{name}") }), is_stream))
}

async fn pull(State(hub): State<Hub>, JsonBody(fields): JsonBody) -> Result<Response, ApiError> {
    let (request, is_stream) = read(fields)?;
    if is_stream {
        return pulling::respond::<Lines>(hub, request).await;
    }
    hub.pull(request).await?;
    Ok(json::response(StatusCode::OK, json::to_vec(&Line::status("success"))))
}

/// One line of a pull.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "OllamaPullLine")]
struct Line {
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<u64>,
}

impl Line {
    fn status(status: impl Into<String>) -> Self {
        Self { status: status.into(), digest: None, total: None, completed: None }
    }

    fn write(&self, out: &mut Vec<u8>) {
        json::write(out, self);
        out.push(b'\n');
    }
}

/// The words of Ollama.
struct Lines;

impl Words for Lines {
    const CONTENT_TYPE: &'static str = "application/x-ndjson";
    const PING: &'static str = " ";

    fn event(event: PullEvent, out: &mut Vec<u8>) {
        match event {
            PullEvent::Plan { .. } => Line::status("pulling manifest").write(out),
            PullEvent::File { file, stage: PullStage::Fetching | PullStage::Done, done, total, .. } => {
                let mut line = Line::status(format!("pulling {file}"));
                // Progress bars are told apart by it.
                line.digest = Some(file);
                (line.total, line.completed) = (Some(total), Some(done));
                line.write(out);
            }
            PullEvent::File { stage: PullStage::Verifying, .. } => {
                Line::status("verifying sha256 digest").write(out);
            }
            _ => {}
        }
    }

    fn done(_model: Installed, out: &mut Vec<u8>) {
        Line::status("success").write(out);
    }

    fn fail(error: &ApiError, out: &mut Vec<u8>) {
        out.extend_from_slice(&error.ollama());
        out.push(b'\n');
    }
}
