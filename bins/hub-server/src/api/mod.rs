//! Every operation: one line a group.

mod docs;
mod hub;
mod ollama;
mod openai;
mod ops;

use axum::{
    Router,
    http::{Method, StatusCode, Uri},
};

pub(crate) use ollama::{is_ollama, speak_ollama};

use crate::{error::ApiError, openapi::Operation, state::AppState};

/// Every operation, in the order of the document.
static GROUPS: &[&[&Operation]] =
    &[openai::OPERATIONS, ollama::OPERATIONS, hub::OPERATIONS, ops::OPERATIONS, docs::OPERATIONS];

/// Returns every operation.
pub(crate) fn operations() -> Vec<&'static Operation> {
    GROUPS.concat()
}

/// Builds the routes of all operations. None is made elsewhere, so that none is missing in the document.
pub(crate) fn routes() -> Router<AppState> {
    let add = |router: Router<AppState>, operation: &Operation| {
        router.route(operation.path, (operation.route)(operation.verb.filter()))
    };
    let routes = operations().into_iter().fold(Router::new(), add);
    routes.fallback(unknown).method_not_allowed_fallback(not_allowed)
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
