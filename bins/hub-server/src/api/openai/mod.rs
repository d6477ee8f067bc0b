//! The OpenAI API, and what its users expect beside it.

mod chat;
mod completions;
mod echo;
mod embeddings;
pub(super) mod messages;
mod models;
mod rerank;
pub(super) mod sampling;
mod wire;

use crate::openapi::Operation;

pub(super) static OPERATIONS: &[&Operation] = &[
    &chat::CREATE,
    &completions::CREATE,
    &embeddings::CREATE,
    &rerank::CREATE,
    &models::LIST,
    &models::RETRIEVE,
];
