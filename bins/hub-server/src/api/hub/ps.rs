//! `GET /hub/v1/ps`: the models in memory.

use axum::{Router, extract::State, http::StatusCode, response::Response, routing::get};
use hub::{Hub, LoadedModel, LoadingModel};
use serde::Serialize;

use crate::{error::ApiError, json, state::AppState};

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/hub/v1/ps", get(list))
}

async fn list(State(hub): State<Hub>) -> Result<Response, ApiError> {
    // Looking at the catalog forgets the models that another process removed.
    hub.models().await?;
    let account = hub.account();
    let loaded = Loaded {
        models: hub.loaded(),
        loading: hub.loading(),
        memory: Memory { used_bytes: account.used_bytes(), limit_bytes: account.limit_bytes() },
    };
    Ok(json::response(StatusCode::OK, json::to_vec(&loaded)))
}

#[derive(Serialize)]
struct Loaded {
    models: Vec<LoadedModel>,
    loading: Vec<LoadingModel>,
    memory: Memory,
}

/// The account that all models share.
#[derive(Serialize)]
struct Memory {
    used_bytes: u64,
    limit_bytes: u64,
}
