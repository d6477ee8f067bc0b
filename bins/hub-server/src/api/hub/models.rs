//! `POST /hub/v1/models/pull`: fetches a model, and streams how far it has come.

use axum::{Router, extract::State, http::StatusCode, response::Response, routing::post};
use hub::{Hub, Installed, PullEvent, PullRequest};

use crate::{
    body::JsonBody,
    error::ApiError,
    json,
    pulling::{self, Words},
    sse::write_event,
    state::AppState,
};

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/hub/v1/models/pull", post(pull))
}

async fn pull(State(hub): State<Hub>, JsonBody(mut fields): JsonBody) -> Result<Response, ApiError> {
    let mut request = PullRequest::new(fields.require::<String>("source")?);
    request.name = fields.take("name")?;
    request.sha256 = fields.take("sha256")?;
    let is_stream = fields.take("stream")?.unwrap_or(true);
    fields.finish(&[])?;
    if is_stream {
        return Ok(pulling::respond::<Events>(hub, request));
    }
    let model = hub.pull(request).await?;
    Ok(json::response(StatusCode::OK, json::to_vec(&model)))
}

/// The events of a pull, then the model or an `error` event.
struct Events;

impl Words for Events {
    const CONTENT_TYPE: &'static str = "text/event-stream";

    fn event(event: &PullEvent, out: &mut Vec<u8>) {
        write_event(out, event);
    }

    fn done(model: &Installed, out: &mut Vec<u8>) {
        write_event(out, &serde_json::json!({ "event": "model", "model": model }));
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn fail(error: &ApiError, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: error\ndata: ");
        out.extend_from_slice(&error.envelope());
        out.extend_from_slice(b"\n\n");
    }
}
