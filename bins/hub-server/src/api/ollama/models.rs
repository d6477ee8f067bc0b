//! `/api/tags`, `/api/show`, `/api/ps`, `/api/version`

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::{extract::State, http::StatusCode, response::Response, routing::on};
use hub::{Hub, Installed};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::wire::{Details, capabilities, installed_name, moment};
use crate::{
    body::JsonBody,
    error::ApiError,
    fields::Fields,
    json,
    openapi::{Body, Example, Fails, Group, Operation, Verb},
};

pub(super) static VERSION: Operation = Operation {
    verb: Verb::Get,
    path: "/api/version",
    group: Group::Ollama,
    summary: "Tells the version of the hub",
    route: |method| on(method, version),
    body: None,
    fails: Fails::Never,
    answers: |answers| {
        answers.json::<Version>();
    },
};

pub(super) static TAGS: Operation = Operation {
    verb: Verb::Get,
    path: "/api/tags",
    group: Group::Ollama,
    summary: "Lists the installed models",
    route: |method| on(method, tags),
    body: None,
    fails: Fails::Store,
    answers: |answers| {
        answers.json::<Tags>();
    },
};

pub(super) static PS: Operation = Operation {
    verb: Verb::Get,
    path: "/api/ps",
    group: Group::Ollama,
    summary: "Lists the models in memory",
    route: |method| on(method, ps),
    body: None,
    fails: Fails::Store,
    answers: |answers| {
        answers.json::<Running>();
    },
};

pub(super) static SHOW: Operation = Operation {
    verb: Verb::Post,
    path: "/api/show",
    group: Group::Ollama,
    summary: "Tells what a model is",
    route: |method| on(method, show),
    body: Some(Body {
        read: |fields| take_name(fields).map(drop),
        examples: &[Example { name: "A model", body: || json!({"model": "hub-guide"}) }],
    }),
    fails: Fails::Model,
    answers: |answers| {
        answers.json::<Shown>();
    },
};

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "OllamaVersion")]
struct Version {
    version: &'static str,
}

async fn version() -> Response {
    json::response(StatusCode::OK, json::to_vec(&Version { version: env!("CARGO_PKG_VERSION") }))
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "OllamaModels")]
struct Tags {
    models: Vec<Model>,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "OllamaModel")]
struct Model {
    name: String,
    model: String,
    modified_at: String,
    size: u64,
    /// What tells this content from another of the same name.
    digest: String,
    details: Details,
}

impl From<&Installed> for Model {
    fn from(model: &Installed) -> Self {
        let since = Duration::from_millis(u64::try_from(model.created_at_ms).unwrap_or(0));
        Self {
            name: model.name.to_string(),
            model: model.name.to_string(),
            modified_at: moment(UNIX_EPOCH + since),
            size: model.bytes,
            digest: format!("{:064x}", (u128::from(model.bytes) << 64) | since.as_millis()),
            details: Details::of(model),
        }
    }
}

async fn tags(State(hub): State<Hub>) -> Result<Response, ApiError> {
    let models: Vec<Model> = hub.models().await?.iter().map(Model::from).collect();
    Ok(json::response(StatusCode::OK, json::to_vec(&Tags { models })))
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "OllamaRunningModels")]
struct Running {
    models: Vec<RunningModel>,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "OllamaRunningModel")]
struct RunningModel {
    /// Its size is what it takes of the memory.
    #[serde(flatten)]
    model: Model,
    size_vram: u64,
    context_length: usize,
    expires_at: String,
}

async fn ps(State(hub): State<Hub>) -> Result<Response, ApiError> {
    let installed = hub.models().await?;
    // Nothing ends by the clock: a model stays until its memory is needed.
    let expires_at = moment(SystemTime::now() + Duration::from_secs(24 * 60 * 60));
    let entry = |loaded: hub::LoadedModel| {
        let model = Model::from(installed.iter().find(|model| model.name == loaded.name)?);
        Some(RunningModel {
            model: Model { size: loaded.memory_bytes, ..model },
            size_vram: if hub.device_name() == "cpu" { 0 } else { loaded.memory_bytes },
            context_length: loaded.context_tokens,
            expires_at: expires_at.clone(),
        })
    };
    let models = hub.loaded().into_iter().filter_map(entry).collect();
    Ok(json::response(StatusCode::OK, json::to_vec(&Running { models })))
}

/// Takes the name of a model under its own field or the one of older clients.
fn take_name(mut fields: Fields) -> Result<String, ApiError> {
    let older = fields.take("name")?;
    let name = fields.take("model")?.or(older);
    let name = fields.either("model", "name", name)?;
    fields.take::<bool>("verbose")?;
    fields.finish(&[])?;
    Ok(name)
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "OllamaShown")]
struct Shown {
    modelfile: &'static str,
    parameters: &'static str,
    /// The chat template.
    template: String,
    details: Details,
    /// What its files say, by names as in GGUF.
    model_info: Map<String, Value>,
    capabilities: &'static [&'static str],
    modified_at: String,
}

async fn show(State(hub): State<Hub>, JsonBody(fields): JsonBody) -> Result<Response, ApiError> {
    let name = installed_name(&hub, take_name(fields)?).await?;
    let details = hub.details(&name).await?;
    let template = hub.chat_template(&name).await?;
    let (model, info) = (&details.installed, &details.info);
    let mut facts = Map::new();
    facts.insert("general.architecture".to_owned(), info.family.into());
    facts.insert("general.parameter_count".to_owned(), info.parameters.into());
    for (key, value) in [
        ("context_length", info.context_tokens),
        ("embedding_length", info.hidden_size),
        ("block_count", info.layers),
    ] {
        facts.insert(format!("{}.{key}", info.family), value.into());
    }
    let shown = Shown {
        modelfile: "",
        parameters: "",
        template: template.unwrap_or_default(),
        details: Details::of(model),
        model_info: facts,
        capabilities: capabilities(model.task),
        modified_at: Model::from(model).modified_at,
    };
    Ok(json::response(StatusCode::OK, json::to_vec(&shown)))
}
