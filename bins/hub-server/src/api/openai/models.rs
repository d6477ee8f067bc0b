//! `GET /v1/models` and `GET /v1/models/{id}`

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
    response::Response,
    routing::on,
};
use hub::{Alias, Hub, Installed, ModelOrigin};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    error::ApiError,
    json,
    openapi::{Fails, Group, Operation, Verb},
};

pub(super) static LIST: Operation = Operation {
    verb: Verb::Get,
    path: "/v1/models",
    group: Group::OpenAi,
    summary: "Lists the installed models and the aliases",
    route: |method| on(method, list),
    body: None,
    fails: Fails::Store,
    answers: |answers| {
        answers.json::<List<'static>>();
    },
};

pub(super) static RETRIEVE: Operation = Operation {
    verb: Verb::Get,
    // A name may hold slashes: `org/model`.
    path: "/v1/models/{*id}",
    group: Group::OpenAi,
    summary: "Finds a model by its name",
    route: |method| on(method, retrieve),
    body: None,
    fails: Fails::Store,
    answers: |answers| {
        answers.json::<Model<'static>>();
    },
};

async fn list(State(hub): State<Hub>) -> Result<Response, ApiError> {
    let (models, aliases) = (hub.models().await?, hub.aliases().await?);
    let aliases = aliases.iter().filter(|alias| is_listed(alias)).map(Model::from);
    let list = List { object: "list", data: models.iter().map(Model::from).chain(aliases).collect() };
    Ok(json::response(StatusCode::OK, json::to_vec(&list)))
}

async fn retrieve(
    State(hub): State<Hub>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Ok(Path(id)) = id else {
        let message = "the name of the model is no text";
        return Err(ApiError::new(StatusCode::NOT_FOUND, message).param("model").code("model_not_found"));
    };
    let aliases = hub.aliases().await?;
    if let Some(alias) = aliases.iter().find(|alias| alias.name == id && is_listed(alias)) {
        return Ok(json::response(StatusCode::OK, json::to_vec(&Model::from(alias))));
    }
    let model = hub.model(&id).await?;
    Ok(json::response(StatusCode::OK, json::to_vec(&Model::from(&model))))
}

/// An alias is a model to whoever looks for its name, if anything installed is behind it. One that hides a model
/// stands in the list as that model already.
fn is_listed(alias: &Alias) -> bool {
    !alias.models.is_empty() && !alias.hides_model
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ModelList")]
struct List<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

#[derive(JsonSchema, Serialize)]
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
            ModelOrigin::Imported | ModelOrigin::Pulled => "user",
        };
        Self { id: model.name.as_str(), object: "model", created: model.created_at_ms / 1_000, owned_by }
    }
}

impl<'a> From<&'a Alias> for Model<'a> {
    fn from(alias: &'a Alias) -> Self {
        Self { id: &alias.name, object: "model", created: 0, owned_by: "alias" }
    }
}
