//! `/api/pull`

use axum::{Router, extract::State, http::StatusCode, response::Response, routing::post};
use hub::{Hub, Installed, PullEvent, PullRequest, PullStage};
use serde::Serialize;

use crate::{
    body::JsonBody,
    error::ApiError,
    fields::Unserved,
    json,
    pulling::{self, Words},
    state::AppState,
};

/// Secrets of Ollama's own registry, which nobody here has.
static UNSERVED: &[Unserved] = &[
    Unserved { name: "insecure", asks_nothing: |value| value == &serde_json::json!(false) },
    Unserved { name: "username", asks_nothing: |value| value == "" },
    Unserved { name: "password", asks_nothing: |value| value == "" },
];

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/api/pull", post(pull))
}

async fn pull(State(hub): State<Hub>, JsonBody(mut fields): JsonBody) -> Result<Response, ApiError> {
    let names: [Option<String>; 2] = [fields.take("model")?, fields.take("name")?];
    let name = names.into_iter().flatten().find(|name| !name.is_empty());
    let name = name.ok_or_else(|| fields.missing("model"))?;
    let is_stream = fields.take("stream")?.unwrap_or(true);
    fields.finish(&[UNSERVED])?;
    // Ollama takes names of its own registry, and those of Hugging Face's pages.
    let is_source = ["hf:", "hf.co/", "huggingface.co/", "ollama:"].iter().any(|word| name.starts_with(word));
    let request = PullRequest::new(if is_source { name } else { format!("ollama:{name}") });
    if is_stream {
        return Ok(pulling::respond::<Lines>(hub, request));
    }
    hub.pull(request).await?;
    Ok(json::response(StatusCode::OK, json::to_vec(&Line::status("success"))))
}

/// One line of a pull.
#[derive(Serialize)]
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

    fn event(event: &PullEvent, out: &mut Vec<u8>) {
        match event {
            PullEvent::Plan { .. } => Line::status("pulling manifest").write(out),
            PullEvent::File { file, stage: PullStage::Fetching | PullStage::Done, done, total, .. } => {
                let mut line = Line::status(format!("pulling {file}"));
                // Progress bars are told apart by it.
                line.digest = Some(file.clone());
                (line.total, line.completed) = (Some(*total), Some(*done));
                line.write(out);
            }
            PullEvent::File { stage: PullStage::Verifying, .. } => {
                Line::status("verifying sha256 digest").write(out);
            }
            _ => {}
        }
    }

    fn done(_model: &Installed, out: &mut Vec<u8>) {
        Line::status("success").write(out);
    }

    fn fail(error: &ApiError, out: &mut Vec<u8>) {
        out.extend_from_slice(&error.ollama());
        out.push(b'\n');
    }
}
