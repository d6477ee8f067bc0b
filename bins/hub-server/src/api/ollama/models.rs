//! `/api/tags`, `/api/show`, `/api/ps`, `/api/version`

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::Response,
    routing::{get, post},
};
use hub::{Hub, Installed, models::Preset};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::wire::{Details, capabilities, installed_name, moment};
use crate::{body::JsonBody, error::ApiError, fields::Unserved, json, state::AppState};

/// What `/api/show` could be told to show in place of what the model has. Ollama's own command always sends them, empty.
static UNSERVED: &[Unserved] = &[
    Unserved { name: "system", asks_nothing: |value| value == "" },
    Unserved { name: "template", asks_nothing: |value| value == "" },
    Unserved { name: "options", asks_nothing: |value| value == &json!({}) },
];

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/api/version", get(version))
        .route("/api/tags", get(tags))
        .route("/api/ps", get(ps))
        .route("/api/show", post(show))
}

/// When what came with this program was changed. Ollama's command shows Go's zero time as "Never".
const NEVER: &str = "0001-01-01T00:00:00Z";

async fn version() -> Response {
    json::response(StatusCode::OK, json::to_vec(&json!({ "version": env!("CARGO_PKG_VERSION") })))
}

#[derive(Serialize)]
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
        let modified_at = if since.is_zero() { NEVER.to_owned() } else { moment(UNIX_EPOCH + since) };
        Self {
            name: model.name.to_string(),
            model: model.name.to_string(),
            modified_at,
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
    Ok(json::response(StatusCode::OK, json::to_vec(&json!({ "models": models }))))
}

async fn ps(State(hub): State<Hub>) -> Result<Response, ApiError> {
    let installed = hub.models().await?;
    // A model that stays until its memory is needed ends, for clients that read a clock, in a hundred years.
    let forever = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let entry = |loaded: hub::LoadedModel| {
        let model = Model::from(installed.iter().find(|model| model.name == loaded.name)?);
        let mut entry = serde_json::to_value(model).ok()?;
        entry["size"] = loaded.memory_bytes.into();
        entry["size_vram"] = if hub.device_name() == "cpu" { 0 } else { loaded.memory_bytes }.into();
        entry["context_length"] = loaded.context_tokens.into();
        let left = loaded.expires_in_ms.map_or(forever, Duration::from_millis);
        entry["expires_at"] = moment(SystemTime::now() + left).into();
        Some(entry)
    };
    let models: Vec<Value> = hub.loaded().into_iter().filter_map(entry).collect();
    Ok(json::response(StatusCode::OK, json::to_vec(&json!({ "models": models }))))
}

/// Writes what came with a model as the lines of Ollama's own files.
fn parameters(preset: &Preset) -> String {
    let number = |name: &str, value: Option<f32>| value.map(|value| format!("{name:<31}{value}"));
    let mut lines: Vec<String> = [
        number("temperature", preset.temperature),
        preset.top_k.map(|top_k| format!("{:<31}{top_k}", "top_k")),
        number("top_p", preset.top_p),
        number("min_p", preset.min_p),
        number("repeat_penalty", preset.repetition_penalty),
        preset.max_tokens.map(|tokens| format!("{:<31}{tokens}", "num_predict")),
    ]
    .into_iter()
    .flatten()
    .collect();
    lines.extend(preset.stop.iter().map(|stop| format!("{:<31}{stop:?}", "stop")));
    lines.join("\n")
}

async fn show(State(hub): State<Hub>, JsonBody(mut fields): JsonBody) -> Result<Response, ApiError> {
    let names: [Option<String>; 2] = [fields.take("model")?, fields.take("name")?];
    // Ollama's own command sends both, and leaves the one it does not mean empty.
    let name = match names.into_iter().flatten().find(|name| !name.is_empty()) {
        Some(name) => installed_name(&hub, name).await?,
        None => return Err(fields.missing("model")),
    };
    fields.take::<bool>("verbose")?;
    fields.finish(&[UNSERVED])?;
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
    let shown = json!({
        "modelfile": "",
        "parameters": parameters(&model.preset),
        "license": model.license.as_deref().unwrap_or_default(),
        "system": model.preset.system.as_deref().unwrap_or_default(),
        "template": template.unwrap_or_default(),
        "details": Details::of(model),
        "model_info": facts,
        "capabilities": capabilities(model),
        "modified_at": Model::from(model).modified_at,
    });
    Ok(json::response(StatusCode::OK, json::to_vec(&shown)))
}
