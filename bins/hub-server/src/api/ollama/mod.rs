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
    Router,
    body::Body,
    extract::Request,
    http::header,
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{error::ApiError, state::AppState};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/", get(running))
        .merge(models::routes())
        .merge(pull::routes())
        .merge(generate::routes())
        .merge(embed::routes())
}

/// What Ollama's programs ask before anything else.
async fn running() -> Response {
    "AI Backend Hub is running".into_response()
}

/// Gives errors under `/api/` Ollama's shape, whichever layer they come from.
pub(crate) async fn speak_ollama(request: Request, next: Next) -> Response {
    let is_ollama = request.uri().path().starts_with("/api/");
    let mut response = next.run(request).await;
    if is_ollama && let Some(error) = response.extensions().get::<ApiError>() {
        *response.body_mut() = Body::from(error.ollama());
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response
}
