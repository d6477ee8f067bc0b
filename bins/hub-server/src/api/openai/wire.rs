//! What several operations of OpenAI's API answer with.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hub::models::FinishReason;
use schemars::JsonSchema;
use serde::Serialize;

/// What a request used.
#[derive(Clone, Copy, Debug, JsonSchema, Serialize)]
pub(crate) struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

impl From<hub::models::Usage> for Usage {
    fn from(usage: hub::models::Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens + usage.completion_tokens,
        }
    }
}

/// What an answer took, in the words of llama.cpp's server; times in milliseconds.
#[derive(Clone, Copy, Debug, JsonSchema, Serialize)]
pub(crate) struct Timings {
    queue_ms: f64,
    prompt_n: usize,
    prompt_ms: f64,
    prompt_per_second: f64,
    predicted_n: usize,
    predicted_ms: f64,
    predicted_per_second: f64,
}

impl From<hub::models::Usage> for Timings {
    fn from(usage: hub::models::Usage) -> Self {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let rate = |tokens: usize, time: Duration| {
            if time.is_zero() { 0.0 } else { tokens as f64 / time.as_secs_f64() }
        };
        Self {
            queue_ms: ms(usage.queue),
            prompt_n: usage.prompt_tokens,
            prompt_ms: ms(usage.prefill),
            prompt_per_second: rate(usage.prompt_tokens, usage.prefill),
            predicted_n: usage.completion_tokens,
            predicted_ms: ms(usage.decode),
            // The first token of an answer comes out of its prompt.
            predicted_per_second: rate(usage.completion_tokens.saturating_sub(1), usage.decode),
        }
    }
}

/// What a request used that generates nothing.
#[derive(Clone, Copy, Debug, JsonSchema, Serialize)]
pub(crate) struct ReadUsage {
    prompt_tokens: usize,
    total_tokens: usize,
}

impl ReadUsage {
    pub(crate) fn new(prompt_tokens: usize) -> Self {
        Self { prompt_tokens, total_tokens: prompt_tokens }
    }
}

/// The names that the events of one stream, or one whole answer, begin with.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) id: String,
    pub(crate) created: u64,
}

impl Head {
    /// Names an answer that begins now.
    pub(crate) fn new(prefix: &str) -> Self {
        Self { id: crate::trace::new_id(prefix), created: now_s() }
    }
}

/// Returns the time in Unix seconds; 0 on a clock before 1970.
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Returns OpenAI's word for why an answer ended.
pub(crate) fn finish_word(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}

/// Returns a logarithm that JSON can carry: it has no infinity, and OpenAI writes this for "never".
pub(crate) fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { -9999.0 }
}

/// Returns the text of a token whose bytes need not be whole characters.
pub(crate) fn token_text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
