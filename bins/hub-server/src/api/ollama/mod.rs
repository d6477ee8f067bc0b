//! The API of Ollama, so that its clients work as they are.
//!
//! Names may carry the tag `latest`, answers stream as lines of JSON unless told otherwise, and errors have Ollama's own
//! shape.

mod embed;
mod generate;
mod models;
mod options;
mod pull;
mod wire;

use axum::{
    body::Body,
    extract::Request,
    http::header,
    middleware::Next,
    response::{IntoResponse, Response},
    routing::on,
};

use crate::{
    error::ApiError,
    openapi::{Fails, Group, Operation, Verb},
};

pub(super) static OPERATIONS: &[&Operation] = &[
    &RUNNING,
    &models::VERSION,
    &models::TAGS,
    &models::PS,
    &models::SHOW,
    &pull::PULL,
    &generate::CHAT,
    &generate::GENERATE,
    &embed::EMBED,
    &embed::EMBED_ONE,
];

static RUNNING: Operation = Operation {
    verb: Verb::Get,
    path: "/",
    group: Group::Ollama,
    summary: "Says that the hub is running",
    route: |method| on(method, running),
    body: None,
    fails: Fails::Never,
    answers: |answers| {
        answers.text("text/plain");
    },
};

/// What Ollama's programs ask before anything else.
async fn running() -> Response {
    "AI Backend Hub is running".into_response()
}

/// Tells whether a path belongs to the API of Ollama.
pub(crate) fn is_ollama(path: &str) -> bool {
    path.starts_with("/api/")
}

/// Gives errors under `/api/` Ollama's shape, whichever layer they come from.
pub(crate) async fn speak_ollama(request: Request, next: Next) -> Response {
    let is_ollama = is_ollama(request.uri().path());
    let mut response = next.run(request).await;
    if is_ollama && let Some(error) = response.extensions().get::<ApiError>() {
        *response.body_mut() = Body::from(error.ollama());
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response
}
