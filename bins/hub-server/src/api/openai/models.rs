//! `GET /v1/models` and `GET /v1/models/{id}`

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
    routing::get,
};
use hub::{Hub, Installed, ModelOrigin};
use serde::Serialize;

use crate::{error::ApiError, json, state::AppState};

pub(super) fn routes() -> Router<AppState> {
    // A name may hold slashes: `org/model`.
    Router::new().route("/v1/models", get(list)).route("/v1/models/{*id}", get(retrieve))
}

async fn list(State(hub): State<Hub>) -> Result<Response, ApiError> {
    let models = hub.models().await?;
    let list = List { object: "list", data: models.iter().map(Model::from).collect() };
    Ok(json::response(StatusCode::OK, json::to_vec(&list)))
}

async fn retrieve(State(hub): State<Hub>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let model = hub.model(&id).await?;
    Ok(json::response(StatusCode::OK, json::to_vec(&Model::from(&model))))
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    owned_by: &'static str,
}

impl<'a> From<&'a Installed> for Model<'a> {
    fn from(model: &'a Installed) -> Self {
        let owned_by = match model.origin {
            ModelOrigin::Builtin => "hub",
            ModelOrigin::Imported => "user",
        };
        Self { id: model.name.as_str(), object: "model", created: model.created_at_ms / 1_000, owned_by }
    }
}
