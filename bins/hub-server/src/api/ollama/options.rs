//! `options`, and the fields beside it.

use hub::{config::KeepAlive, models::GenerateOptions};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    api::openai::sampling,
    error::ApiError,
    fields::{Fields, Idle, Unserved},
};

/// The largest number of tokens that can be meant.
const MAX_TOKENS: i64 = 1 << 30;

/// Options that are not served, with the values that ask for nothing.
static UNSERVED_OPTIONS: &[Unserved] = &[
    // These tell Ollama how to use a machine, which the hub knows itself.
    Unserved { name: "num_ctx", idle: Idle::Any },
    Unserved { name: "num_batch", idle: Idle::Any },
    Unserved { name: "num_gpu", idle: Idle::Any },
    Unserved { name: "main_gpu", idle: Idle::Any },
    Unserved { name: "num_thread", idle: Idle::Any },
    Unserved { name: "num_keep", idle: Idle::Any },
    Unserved { name: "low_vram", idle: Idle::Any },
    Unserved { name: "f16_kv", idle: Idle::Any },
    Unserved { name: "use_mmap", idle: Idle::Any },
    Unserved { name: "use_mlock", idle: Idle::Any },
    Unserved { name: "numa", idle: Idle::Any },
    Unserved { name: "vocab_only", idle: Idle::Any },
    Unserved { name: "logits_all", idle: Idle::Any },
    Unserved { name: "penalize_newline", idle: Idle::Any },
    Unserved { name: "num_gqa", idle: Idle::Any },
    Unserved { name: "mirostat", idle: Idle::Is(0.0) },
    Unserved { name: "mirostat_tau", idle: Idle::Number },
    Unserved { name: "mirostat_eta", idle: Idle::Number },
    Unserved { name: "tfs_z", idle: Idle::Is(1.0) },
    Unserved { name: "typical_p", idle: Idle::Is(1.0) },
    Unserved { name: "repeat_last_n", idle: Idle::Number },
];

/// Fields that chat and generate share and that are not served.
pub(super) static UNSERVED: &[Unserved] = &[
    Unserved { name: "format", idle: Idle::Words(&[""]) },
    Unserved { name: "tools", idle: Idle::EmptyList },
    Unserved { name: "images", idle: Idle::EmptyList },
    Unserved { name: "template", idle: Idle::Words(&[""]) },
    Unserved { name: "suffix", idle: Idle::Words(&[""]) },
    Unserved { name: "context", idle: Idle::EmptyList },
    // What does not fit is refused, never cut.
    Unserved { name: "truncate", idle: Idle::False },
    Unserved { name: "shift", idle: Idle::False },
    Unserved { name: "logprobs", idle: Idle::False },
    Unserved { name: "top_logprobs", idle: Idle::Is(0.0) },
];

/// Takes `options`.
///
/// # Errors
/// 400 naming the option that cannot be meant or is not served.
pub(super) fn take(fields: &mut Fields) -> Result<GenerateOptions, ApiError> {
    let mut options = GenerateOptions::default();
    let Some(mut given) = fields.object("options")? else { return Ok(options) };
    let sampling = &mut options.sampling;
    sampling.temperature = given.number("temperature", 0.0..=2.0)?;
    // -1 does not cut, as elsewhere.
    let top_k = given.number("top_k", -1..=i64::from(u32::MAX))?;
    sampling.top_k = top_k.map(|top_k| u32::try_from(top_k).unwrap_or(0));
    sampling.top_p = given.number("top_p", 0.0..=1.0)?;
    sampling.min_p = given.number("min_p", 0.0..=1.0)?;
    sampling.repetition_penalty = given.number("repeat_penalty", 0.01..=10.0)?;
    sampling.presence_penalty = given.number("presence_penalty", -2.0..=2.0)?;
    sampling.frequency_penalty = given.number("frequency_penalty", -2.0..=2.0)?;
    sampling.seed = given.take::<i64>("seed")?.map(i64::cast_unsigned);
    // -1 is no limit, -2 what the context leaves: the same here.
    let most = given.number("num_predict", -2..=MAX_TOKENS)?;
    options.cuts_max_tokens = true;
    options.max_tokens = most.and_then(|tokens| usize::try_from(tokens).ok());
    options.stop = sampling::take_stop(&mut given)?;
    given.finish(&[UNSERVED_OPTIONS])?;
    Ok(options)
}

/// Takes `keep_alive`: how long the model stays after the answer.
///
/// # Errors
/// 400 if it is no time.
pub(super) fn take_keep_alive(fields: &mut Fields) -> Result<Option<KeepAlive>, ApiError> {
    // An empty one is Ollama's own command's way of saying nothing.
    if fields.is("keep_alive", &Value::from("")) { Ok(None) } else { fields.take("keep_alive") }
}

/// Whether a model thinks, or how much.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a boolean or a degree")]
enum Think {
    IsOn(bool),
    Degree(String),
}

/// Takes `think`, as what chat templates are told.
///
/// # Errors
/// 400 if it is neither on, off nor a degree.
pub(super) fn take_think(fields: &mut Fields) -> Result<Map<String, Value>, ApiError> {
    let mut kwargs = Map::new();
    match fields.take("think")? {
        None => {}
        Some(Think::IsOn(is_on)) => {
            kwargs.insert("enable_thinking".to_owned(), is_on.into());
        }
        Some(Think::Degree(effort)) => {
            kwargs.insert("enable_thinking".to_owned(), true.into());
            kwargs.insert("reasoning_effort".to_owned(), effort.into());
        }
    }
    Ok(kwargs)
}
