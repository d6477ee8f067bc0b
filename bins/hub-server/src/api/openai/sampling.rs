//! The fields that chat and completions share, and those that neither serves.

use std::{collections::BTreeMap, num::NonZeroU32};

use hub::models::{EndTokens, GenerateOptions, SamplingOptions};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::{
    error::ApiError,
    fields::{Fields, Idle, Unserved},
};

/// The most choices of a request, as in OpenAI's API.
const MAX_CHOICES: u32 = 128;

/// The largest number of tokens that can be meant.
const MAX_TOKENS: usize = 1 << 30;

/// How an answer is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As one JSON object.
    Whole,
    /// As events while it is generated.
    Stream(StreamUsage),
}

/// Whether the last event of a stream tells the usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamUsage {
    /// It does, and every other event says `"usage": null`.
    Told,
    /// It does not.
    Untold,
}

/// Takes the fields that say how an answer is generated; `least_tokens` is the shortest answer that can be asked for.
///
/// # Errors
/// 400 naming the field that is of the wrong type or out of range.
pub(crate) fn take_options(fields: &mut Fields, least_tokens: usize) -> Result<GenerateOptions, ApiError> {
    let mut sampling = SamplingOptions::default();
    sampling.temperature = fields.number("temperature", 0.0..=2.0)?;
    sampling.top_p = fields.number("top_p", 0.0..=1.0)?;
    // vLLM's clients write -1 for a cut that does not cut.
    let top_k = fields.number("top_k", -1..=i64::from(u32::MAX))?;
    sampling.top_k = top_k.map(|top_k| u32::try_from(top_k).unwrap_or(0));
    sampling.min_p = fields.number("min_p", 0.0..=1.0)?;
    sampling.repetition_penalty = take_repetition_penalty(fields)?;
    sampling.presence_penalty = fields.number("presence_penalty", -2.0..=2.0)?;
    sampling.frequency_penalty = fields.number("frequency_penalty", -2.0..=2.0)?;
    sampling.logit_bias = take_logit_bias(fields)?;
    sampling.seed = fields.take::<i64>("seed")?.map(i64::cast_unsigned);

    let mut options = GenerateOptions::default().sampling(sampling);
    options.max_tokens = take_max_tokens(fields, least_tokens)?;
    options.min_tokens = fields.number("min_tokens", 0..=MAX_TOKENS)?.unwrap_or(0);
    options.stop = take_stop(fields)?;
    if fields.take::<bool>("ignore_eos")? == Some(true) {
        options.end = EndTokens::Ignore;
    }
    let choices = fields.number("n", 1..=MAX_CHOICES)?;
    options.choices = choices.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    Ok(options)
}

/// Takes the texts that end an answer.
///
/// # Errors
/// 400 if it is neither a text nor an array of texts, or one is empty.
pub(crate) fn take_stop(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let texts = match fields.take("stop")? {
        Some(Stop::One(text)) => vec![text],
        Some(Stop::Many(texts)) => texts,
        None => Vec::new(),
    };
    if texts.iter().any(String::is_empty) {
        let path = fields.path("stop");
        return Err(ApiError::invalid(&path, format!("`{path}` must not hold an empty text")));
    }
    Ok(texts)
}

/// A text that ends an answer, or several.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a string or an array of strings")]
enum Stop {
    One(#[schemars(length(min = 1))] String),
    Many(#[schemars(inner(length(min = 1)))] Vec<String>),
}

/// Takes the penalty of repetitions under its own name or llama.cpp's.
fn take_repetition_penalty(fields: &mut Fields) -> Result<Option<f32>, ApiError> {
    let names = ["repetition_penalty", "repeat_penalty"];
    let [value, other] = names.map(|name| fields.number(name, 0.01..=10.0));
    same(names, value?, other?)
}

/// Takes the length of an answer under its own name or llama.cpp's, whose -1 is no limit.
fn take_max_tokens(fields: &mut Fields, least: usize) -> Result<Option<usize>, ApiError> {
    let value = fields.number("max_tokens", least..=MAX_TOKENS)?;
    let is_unlimited = fields.is("n_predict", &json!(-1));
    let other = if is_unlimited { None } else { fields.number("n_predict", least..=MAX_TOKENS)? };
    same(["max_tokens", "n_predict"], value, other)
}

/// Returns what a field and its other name say: the same, or one of them nothing.
fn same<T: PartialEq>(
    [name, other_name]: [&str; 2],
    value: Option<T>,
    other: Option<T>,
) -> Result<Option<T>, ApiError> {
    if value.is_some() && other.is_some() && value != other {
        let message = format!("`{other_name}` is another name of `{name}`; they say different things");
        return Err(ApiError::invalid(other_name, message));
    }
    Ok(value.or(other))
}

/// Takes `stream` and `stream_options`.
///
/// # Errors
/// 400 if the options are there and the stream is not, or for an option of theirs that is not served.
pub(crate) fn take_form(fields: &mut Fields) -> Result<Form, ApiError> {
    let is_stream = fields.take::<bool>("stream")?.unwrap_or(false);
    let Some(mut options) = fields.object("stream_options")? else {
        return Ok(if is_stream { Form::Stream(StreamUsage::Untold) } else { Form::Whole });
    };
    if !is_stream {
        return Err(ApiError::invalid("stream_options", "`stream_options` needs `\"stream\": true`"));
    }
    let usage = match options.take::<bool>("include_usage")? {
        Some(true) => StreamUsage::Told,
        Some(false) | None => StreamUsage::Untold,
    };
    options.finish(&[&[
        Unserved { name: "include_obfuscation", idle: Idle::False },
        Unserved { name: "continuous_usage_stats", idle: Idle::False },
    ]])?;
    Ok(Form::Stream(usage))
}

/// Takes whether the answer says what it took: under the hub's own name, or llama.cpp's, which says it once here.
pub(crate) fn take_timings(fields: &mut Fields) -> Result<bool, ApiError> {
    let [own, theirs] = ["timings", "timings_per_token"].map(|name| fields.take::<bool>(name));
    Ok(own? == Some(true) || theirs? == Some(true))
}

/// Takes a map from token ids, written as text as in OpenAI's API, to what is added to their scores.
fn take_logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>, ApiError> {
    let biases: BTreeMap<String, f32> = fields.take("logit_bias")?.unwrap_or_default();
    let read = |(token, bias): (String, f32)| {
        let id = token.parse().ok().filter(|_| (-100.0..=100.0).contains(&bias));
        id.map(|id| (id, bias)).ok_or_else(|| {
            let message =
                format!("`logit_bias` maps token ids to numbers from -100 to 100, not {token:?} to {bias}");
            ApiError::invalid("logit_bias", message)
        })
    };
    biases.into_iter().map(read).collect()
}

/// Fields that clients of OpenAI, vLLM and llama.cpp send to chat and to completions, and that change nothing here
/// for the values listed. Every other value is refused by name.
pub(crate) static UNSERVED: &[Unserved] = &[
    // Labels that OpenAI keeps for itself; here nobody reads them.
    Unserved { name: "user", idle: Idle::Text },
    Unserved { name: "metadata", idle: Idle::Object },
    Unserved { name: "safety_identifier", idle: Idle::Text },
    Unserved { name: "prompt_cache_key", idle: Idle::Text },
    // Classes of service: there is one.
    Unserved { name: "service_tier", idle: Idle::Words(&["auto", "default"]) },
    // What vLLM calls the ways in which answers are generated here anyway.
    Unserved { name: "use_beam_search", idle: Idle::False },
    Unserved { name: "length_penalty", idle: Idle::Is(1.0) },
    Unserved { name: "stop_token_ids", idle: Idle::EmptyList },
    Unserved { name: "bad_words", idle: Idle::EmptyList },
    Unserved { name: "include_stop_str_in_output", idle: Idle::False },
    Unserved { name: "skip_special_tokens", idle: Idle::True },
    Unserved { name: "spaces_between_special_tokens", idle: Idle::True },
    Unserved { name: "truncate_prompt_tokens", idle: Idle::Never },
    Unserved { name: "prompt_logprobs", idle: Idle::Never },
    Unserved { name: "allowed_token_ids", idle: Idle::Never },
    Unserved { name: "structured_outputs", idle: Idle::Never },
    Unserved { name: "guided_json", idle: Idle::Never },
    Unserved { name: "guided_regex", idle: Idle::Never },
    Unserved { name: "guided_choice", idle: Idle::Never },
    Unserved { name: "guided_grammar", idle: Idle::Never },
    Unserved { name: "priority", idle: Idle::Is(0.0) },
    // llama.cpp's: a prompt's beginning is reused or not, the answer is the same.
    Unserved { name: "cache_prompt", idle: Idle::Boolean },
    Unserved { name: "detokenize", idle: Idle::True },
    Unserved { name: "request_id", idle: Idle::Text },
    Unserved { name: "return_token_ids", idle: Idle::False },
    Unserved { name: "return_tokens_as_token_ids", idle: Idle::False },
    Unserved { name: "typ_p", idle: Idle::Is(1.0) },
    Unserved { name: "tfs_z", idle: Idle::Is(1.0) },
    Unserved { name: "dynatemp_range", idle: Idle::Is(0.0) },
    Unserved { name: "dynatemp_exponent", idle: Idle::Number },
    Unserved { name: "xtc_probability", idle: Idle::Is(0.0) },
    Unserved { name: "xtc_threshold", idle: Idle::Number },
    Unserved { name: "dry_multiplier", idle: Idle::Is(0.0) },
    Unserved { name: "dry_base", idle: Idle::Number },
    Unserved { name: "dry_allowed_length", idle: Idle::Number },
    Unserved { name: "dry_penalty_last_n", idle: Idle::Number },
    Unserved { name: "mirostat_tau", idle: Idle::Number },
    Unserved { name: "mirostat_eta", idle: Idle::Number },
    Unserved { name: "return_progress", idle: Idle::False },
    Unserved { name: "n_probs", idle: Idle::Is(0.0) },
    Unserved { name: "id_slot", idle: Idle::Is(-1.0) },
    Unserved { name: "grammar", idle: Idle::Words(&[""]) },
    Unserved { name: "mirostat", idle: Idle::Is(0.0) },
    Unserved { name: "typical_p", idle: Idle::Is(1.0) },
];
