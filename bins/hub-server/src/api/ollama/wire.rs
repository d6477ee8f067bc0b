use std::time::{Duration, SystemTime};

use hub::{
    Hub, Installed,
    base::Task,
    models::{FinishReason, Usage},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::ApiError;

/// Writes a moment as Go does: `2026-11-25T03:00:00.123456789Z`.
pub(super) fn moment(at: SystemTime) -> String {
    Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// Returns the name a model is installed under: Ollama's clients put `:latest` behind names without a tag.
pub(super) async fn installed_name(hub: &Hub, asked: String) -> Result<String, ApiError> {
    let Some(bare) = asked.strip_suffix(":latest") else { return Ok(asked) };
    let is_there = hub.models().await?.iter().any(|model| model.name.as_str() == asked);
    Ok(if is_there { asked } else { bare.to_owned() })
}

/// What a model is, in Ollama's words.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "OllamaDetails")]
pub(super) struct Details {
    parent_model: &'static str,
    format: String,
    family: String,
    families: [String; 1],
    parameter_size: String,
    quantization_level: String,
}

impl Details {
    pub(super) fn of(model: &Installed) -> Self {
        Self {
            parent_model: "",
            format: model.format.clone(),
            family: model.family.clone(),
            families: [model.family.clone()],
            parameter_size: size(model.parameters),
            quantization_level: model.weights.clone(),
        }
    }
}

/// Returns what a model can be asked, in Ollama's words.
pub(super) fn capabilities(model: &Installed) -> Vec<&'static str> {
    let thinks = model.capabilities.iter().any(|word| word == "reasoning");
    match model.task {
        Task::Chat => ["completion"].into_iter().chain(thinks.then_some("thinking")).collect(),
        Task::Embed => vec!["embedding"],
        Task::Rerank => Vec::new(),
    }
}

/// Writes a number of parameters: `8.2B`.
fn size(parameters: u64) -> String {
    let number = parameters as f64;
    match parameters {
        0..1_000_000 => format!("{:.2}K", number / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2}M", number / 1e6),
        _ => format!("{:.1}B", number / 1e9),
    }
}

/// What an answer took, in Ollama's words; times in nanoseconds.
#[derive(Clone, Copy, JsonSchema, Serialize)]
#[schemars(rename = "OllamaUsage")]
pub(super) struct Took {
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: usize,
    prompt_eval_duration: u64,
    eval_count: usize,
    eval_duration: u64,
}

impl Took {
    pub(super) fn of(usage: &Usage) -> Self {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            total_duration: ns(usage.queue + usage.prefill + usage.decode),
            load_duration: 0,
            prompt_eval_count: usage.prompt_tokens,
            prompt_eval_duration: ns(usage.prefill),
            eval_count: usage.completion_tokens,
            eval_duration: ns(usage.decode),
        }
    }
}

/// Returns Ollama's word for why an answer ended.
pub(super) fn done_reason(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}
