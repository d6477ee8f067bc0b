//! `/api/tags`, `/api/show`, `/api/ps`, `/api/version`

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::{extract::State, http::StatusCode, response::Response, routing::on};
use hub::{Hub, Installed, models::Preset};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::wire::{Details, capabilities, installed_name, moment};
use crate::{
    body::JsonBody,
    error::ApiError,
    fields::{Fields, Idle, Unserved},
    json,
    openapi::{Body, Example, Fails, Group, Operation, Verb},
};

/// When what came with this program was changed. Ollama's command shows Go's zero time as "Never".
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What `/api/show` could be told to show in place of what the model has. Ollama's own command always sends them, empty.
static UNSERVED: &[Unserved] = &[
    Unserved { name: "system", idle: Idle::Words(&[""]) },
    Unserved { name: "template", idle: Idle::Words(&[""]) },
    Unserved { name: "options", idle: Idle::Exactly(|| json!({})) },
];

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
        read: |fields| read(fields).map(drop),
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
            modified_at: if since.is_zero() { NEVER.to_owned() } else { moment(UNIX_EPOCH + since) },
            size: model.disk_bytes.max(model.bytes),
            digest: digest(model, since),
            details: Details::of(model),
        }
    }
}

/// Returns the digest of a model's weights; of several files, or of none, something that differs as they do.
fn digest(model: &Installed, since: Duration) -> String {
    match model.files.as_slice() {
        [file] => file.sha256.clone(),
        _ => format!("{:064x}", (u128::from(model.bytes) << 64) | since.as_millis()),
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
    // A model that stays until its memory is needed ends, for clients that read a clock, in a hundred years.
    let forever = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let entry = |loaded: hub::LoadedModel| {
        let model = Model::from(installed.iter().find(|model| model.name == loaded.name)?);
        Some(RunningModel {
            model: Model { size: loaded.memory_bytes, ..model },
            size_vram: if hub.device_name() == "cpu" { 0 } else { loaded.memory_bytes },
            context_length: loaded.context_tokens,
            expires_at: moment(
                SystemTime::now() + loaded.expires_in_ms.map_or(forever, Duration::from_millis).min(forever),
            ),
        })
    };
    let models = hub.loaded().into_iter().filter_map(entry).collect();
    Ok(json::response(StatusCode::OK, json::to_vec(&Running { models })))
}

/// Takes the name of a model under its own field or the one of older clients.
pub(super) fn take_name(fields: &mut Fields) -> Result<String, ApiError> {
    let names: [Option<String>; 2] = [fields.take("model")?, fields.take("name")?];
    // Ollama's own command sends both, and leaves the one it does not mean empty.
    let name = names.into_iter().flatten().find(|name| !name.is_empty());
    fields.either("model", "name", name)
}

/// Reads which model is asked for.
fn read(mut fields: Fields) -> Result<String, ApiError> {
    let name = take_name(&mut fields)?;
    fields.take::<bool>("verbose")?;
    fields.finish(&[UNSERVED])?;
    Ok(name)
}

/// Writes what came with a model as the lines of Ollama's own files.
fn parameters(preset: &Preset) -> String {
    let number = |name: &str, value: Option<f32>| value.map(|value| format!("{name:<31}{value}"));
    let mut lines: Vec<String> = [
        number("temperature", preset.sampling.temperature),
        preset.sampling.top_k.map(|top_k| format!("{:<31}{top_k}", "top_k")),
        number("top_p", preset.sampling.top_p),
        number("min_p", preset.sampling.min_p),
        number("repeat_penalty", preset.sampling.repetition_penalty),
        preset.max_tokens.map(|tokens| format!("{:<31}{tokens}", "num_predict")),
    ]
    .into_iter()
    .flatten()
    .collect();
    lines.extend(preset.stop.iter().map(|stop| format!("{:<31}{stop:?}", "stop")));
    lines.join("\n")
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "OllamaShown")]
struct Shown {
    modelfile: &'static str,
    /// What came with it, in lines of a name and a value.
    parameters: String,
    license: String,
    /// What it is told before a conversation.
    system: String,
    /// The chat template.
    template: String,
    details: Details,
    /// What its files say, by names as in GGUF.
    model_info: Map<String, Value>,
    capabilities: Vec<&'static str>,
    modified_at: String,
}

async fn show(State(hub): State<Hub>, JsonBody(fields): JsonBody) -> Result<Response, ApiError> {
    let name = installed_name(&hub, read(fields)?).await?;
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
        parameters: parameters(&model.preset),
        license: model.license.clone().unwrap_or_default(),
        system: model.preset.system.clone().unwrap_or_default(),
        template: template.unwrap_or_default(),
        details: Details::of(model),
        model_info: facts,
        capabilities: capabilities(model),
        modified_at: Model::from(model).modified_at,
    };
    Ok(json::response(StatusCode::OK, json::to_vec(&shown)))
}
