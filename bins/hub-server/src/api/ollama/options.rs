//! `options`, and the fields beside it.

use hub::{config::KeepAlive, models::GenerateOptions};
use serde_json::{Map, Value, json};

use crate::{
    error::ApiError,
    fields::{Fields, Unserved},
};

/// Options that tell Ollama how to use a machine, which the hub knows itself: any value asks for nothing.
const MACHINE: [&str; 15] = [
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "num_keep",
    "low_vram",
    "f16_kv",
    "use_mmap",
    "use_mlock",
    "numa",
    "vocab_only",
    "logits_all",
    "penalize_newline",
    "num_gqa",
];

/// The largest number of tokens that can be meant.
const MAX_TOKENS: i64 = 1 << 30;

/// Options of ways to draw that are not served, with the values that ask for nothing.
static UNSERVED_OPTIONS: &[Unserved] = &[
    Unserved { name: "mirostat", asks_nothing: |value| value == &json!(0) },
    Unserved { name: "mirostat_tau", asks_nothing: Value::is_number },
    Unserved { name: "mirostat_eta", asks_nothing: Value::is_number },
    Unserved { name: "tfs_z", asks_nothing: |value| value.as_f64() == Some(1.0) },
    Unserved { name: "typical_p", asks_nothing: |value| value.as_f64() == Some(1.0) },
    Unserved { name: "repeat_last_n", asks_nothing: Value::is_number },
];

/// Fields that chat and generate share and that are not served.
pub(super) static UNSERVED: &[Unserved] = &[
    Unserved { name: "format", asks_nothing: |value| value == "" },
    Unserved { name: "tools", asks_nothing: |value| value == &json!([]) },
    Unserved { name: "images", asks_nothing: |value| value == &json!([]) },
    Unserved { name: "template", asks_nothing: |value| value == "" },
    Unserved { name: "suffix", asks_nothing: |value| value == "" },
    Unserved { name: "context", asks_nothing: |value| value == &json!([]) },
    // What does not fit is refused, never cut.
    Unserved { name: "truncate", asks_nothing: |value| value == &json!(false) },
    Unserved { name: "shift", asks_nothing: |value| value == &json!(false) },
    Unserved { name: "logprobs", asks_nothing: |value| value == &json!(false) },
    Unserved { name: "top_logprobs", asks_nothing: |value| value == &json!(0) },
];

/// Takes `options`.
///
/// # Errors
/// 400 naming the option that cannot be meant or is not served.
pub(super) fn take(fields: &mut Fields) -> Result<GenerateOptions, ApiError> {
    let mut options = GenerateOptions::default();
    let Some(value) = fields.take_value("options") else { return Ok(options) };
    let mut given = Fields::nested("options".to_owned(), value)?;
    let sampling = &mut options.sampling;
    sampling.temperature = given.number("temperature", 0.0..=2.0)?;
    sampling.top_k = given.number("top_k", 0..=u32::MAX)?;
    sampling.top_p = given.number("top_p", 0.0..=1.0)?;
    sampling.min_p = given.number("min_p", 0.0..=1.0)?;
    sampling.repetition_penalty = given.number("repeat_penalty", 0.01..=10.0)?;
    sampling.presence_penalty = given.number("presence_penalty", -2.0..=2.0)?;
    sampling.frequency_penalty = given.number("frequency_penalty", -2.0..=2.0)?;
    sampling.seed = given.take::<i64>("seed")?.map(i64::cast_unsigned);
    // -1 is no limit, -2 what the context leaves: the same here.
    let most = given.number("num_predict", -2..=MAX_TOKENS)?;
    options.max_tokens = most.and_then(|tokens| usize::try_from(tokens).ok());
    options.stop = match given.take_value("stop") {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(texts)) => {
            texts.into_iter().filter_map(|text| Some(text.as_str()?.to_owned())).collect()
        }
        Some(_) => {
            return Err(ApiError::invalid("options.stop", "`options.stop` must be an array of strings"));
        }
        None => Vec::new(),
    };
    for name in MACHINE {
        given.take_value(name);
    }
    given.finish(&[UNSERVED_OPTIONS])?;
    Ok(options)
}

/// Takes `keep_alive`: how long the model stays after the answer.
///
/// # Errors
/// 400 if it is no time.
pub(super) fn take_keep_alive(fields: &mut Fields) -> Result<Option<KeepAlive>, ApiError> {
    // An empty one is Ollama's own command's way of saying nothing.
    if fields.is("keep_alive", &json!("")) { Ok(None) } else { fields.take("keep_alive") }
}

/// Takes `think`, as what chat templates are told: on, off, or a degree.
///
/// # Errors
/// 400 if it is neither.
pub(super) fn take_think(fields: &mut Fields) -> Result<Map<String, Value>, ApiError> {
    let mut kwargs = Map::new();
    match fields.take_value("think") {
        None => {}
        Some(Value::Bool(is_on)) => {
            kwargs.insert("enable_thinking".to_owned(), is_on.into());
        }
        Some(Value::String(effort)) => {
            kwargs.insert("enable_thinking".to_owned(), true.into());
            kwargs.insert("reasoning_effort".to_owned(), effort.into());
        }
        Some(_) => return Err(ApiError::invalid("think", "`think` must be a boolean or a degree")),
    }
    Ok(kwargs)
}
