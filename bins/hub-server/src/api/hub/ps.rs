//! `GET /hub/v1/ps`: the models in memory.

use axum::{extract::State, http::StatusCode, response::Response, routing::on};
use hub::{Hub, LoadedModel, LoadingModel};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    error::ApiError,
    json,
    openapi::{Fails, Group, Operation, Verb},
};

pub(super) static LIST: Operation = Operation {
    verb: Verb::Get,
    path: "/hub/v1/ps",
    group: Group::Hub,
    summary: "Lists the models in memory",
    route: |method| on(method, list),
    body: None,
    fails: Fails::Store,
    answers: |answers| {
        answers.json::<Loaded>();
    },
};

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

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "LoadedModels")]
struct Loaded {
    models: Vec<LoadedModel>,
    loading: Vec<LoadingModel>,
    memory: Memory,
}

/// The account that all models share.
#[derive(JsonSchema, Serialize)]
struct Memory {
    used_bytes: u64,
    limit_bytes: u64,
}
