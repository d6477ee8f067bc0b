//! The OpenAI API, and what its users expect beside it.

mod chat;
mod completions;
mod echo;
mod embeddings;
pub(super) mod messages;
mod models;
mod rerank;
mod sampling;
mod wire;

use axum::Router;

use crate::state::AppState;

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .merge(chat::routes())
        .merge(completions::routes())
        .merge(embeddings::routes())
        .merge(models::routes())
        .merge(rerank::routes())
}
