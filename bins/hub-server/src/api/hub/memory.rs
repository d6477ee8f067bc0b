//! `POST /hub/v1/models/load` and `/hub/v1/models/unload`: models into memory, and out of it.

use axum::{extract::State, http::StatusCode, response::Response, routing::on};
use hub::{Hub, Installed, config::KeepAlive};
use hub_base::ProgressSink;
use serde_json::json;

use crate::{
    body::JsonBody,
    error::ApiError,
    fields::Fields,
    json,
    openapi::{Body, Example, Fails, Group, Operation, Verb},
};

pub(super) static LOAD: Operation = Operation {
    verb: Verb::Post,
    path: "/hub/v1/models/load",
    group: Group::Hub,
    summary: "Loads a model, if it is not in memory",
    route: |method| on(method, load),
    body: Some(Body { read: |fields| read_load(fields).map(drop), examples: LOAD_EXAMPLES }),
    fails: Fails::Model,
    answers: |answers| {
        answers.json::<Installed>();
    },
};

pub(super) static UNLOAD: Operation = Operation {
    verb: Verb::Post,
    path: "/hub/v1/models/unload",
    group: Group::Hub,
    summary: "Unloads a model, as soon as nobody uses it",
    route: |method| on(method, unload),
    body: Some(Body { read: |fields| read_unload(fields).map(drop), examples: UNLOAD_EXAMPLES }),
    fails: Fails::Model,
    answers: |answers| {
        answers.json::<Installed>();
    },
};

static LOAD_EXAMPLES: &[Example] = &[Example {
    name: "The guide, for half an hour",
    body: || json!({"model": "hub-guide", "keep_alive": "30m"}),
}];

static UNLOAD_EXAMPLES: &[Example] = &[Example { name: "The guide", body: || json!({"model": "hub-guide"}) }];

/// Reads which model to load, and for how long.
fn read_load(mut fields: Fields) -> Result<(String, Option<KeepAlive>), ApiError> {
    let asked = (fields.require("model")?, fields.take("keep_alive")?);
    fields.finish(&[])?;
    Ok(asked)
}

fn read_unload(mut fields: Fields) -> Result<String, ApiError> {
    let model = fields.require("model")?;
    fields.finish(&[])?;
    Ok(model)
}

async fn load(State(hub): State<Hub>, JsonBody(fields): JsonBody) -> Result<Response, ApiError> {
    let (model, keep_alive) = read_load(fields)?;
    let loaded = hub.load(&model, None, keep_alive, ProgressSink::default()).await?;
    Ok(json::response(StatusCode::OK, json::to_vec(&loaded)))
}

async fn unload(State(hub): State<Hub>, JsonBody(fields): JsonBody) -> Result<Response, ApiError> {
    let unloaded = hub.unload(&read_unload(fields)?).await?;
    Ok(json::response(StatusCode::OK, json::to_vec(&unloaded)))
}
