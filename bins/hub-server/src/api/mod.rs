//! Every operation: one `merge` a group.

mod hub;
mod ollama;
mod openai;
mod ops;

use axum::{
    Router,
    http::{Method, StatusCode, Uri},
};

pub(crate) use ollama::speak_ollama;

use crate::{error::ApiError, state::AppState};

pub(crate) fn routes() -> Router<AppState> {
    Router::new()
        .merge(openai::routes())
        .merge(ollama::routes())
        .merge(hub::routes())
        .merge(ops::routes())
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
}

async fn unknown(method: Method, uri: Uri) -> ApiError {
    let hint = if uri.path().starts_with("/chat/") || uri.path().starts_with("/embeddings") {
        "; OpenAI's API begins with /v1"
    } else {
        ""
    };
    let message = format!("there is no operation {method} {}{hint}", shown(&uri));
    ApiError::new(StatusCode::NOT_FOUND, message).code("unknown_operation")
}

async fn not_allowed(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} has no operation {method}", shown(&uri));
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message).code("method_not_allowed")
}

/// Returns enough of a path to know it again.
fn shown(uri: &Uri) -> String {
    uri.path().chars().take(200).collect()
}
