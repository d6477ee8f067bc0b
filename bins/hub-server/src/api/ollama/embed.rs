//! `/api/embed`, and `/api/embeddings` of older clients

use std::time::Instant;

use axum::{extract::State, http::StatusCode, response::Response, routing::on};
use hub::{
    EmbedRequest, Hub,
    config::KeepAlive,
    models::{EmbedOptions, Input, TooLong},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{options, wire::installed_name};
use crate::{
    asker::Asker,
    body::JsonBody,
    error::ApiError,
    fields::Fields,
    json,
    metrics::Metrics,
    openapi::{Body, Example, Fails, Group, Operation, Verb},
};

/// The most inputs of a request.
const MAX_INPUTS: usize = 2_048;

pub(super) static EMBED: Operation = Operation {
    verb: Verb::Post,
    path: "/api/embed",
    group: Group::Ollama,
    summary: "Turns texts into vectors",
    route: |method| on(method, embed),
    body: Some(Body {
        read: |fields| Call::try_from(fields).map(drop),
        examples: &[Example {
            name: "Two texts",
            body: || json!({"model": "minilm", "input": ["Xin chào", "Hello"], "options": {"num_ctx": 256}}),
        }],
    }),
    fails: Fails::Model,
    answers: |answers| {
        answers.json::<Embeddings<'static>>();
    },
};

pub(super) static EMBED_ONE: Operation = Operation {
    verb: Verb::Post,
    path: "/api/embeddings",
    group: Group::Ollama,
    summary: "Turns a text into a vector, for older clients",
    route: |method| on(method, embed_one),
    body: Some(Body {
        read: |fields| Call::of_one(fields).map(drop),
        examples: &[Example {
            name: "A text",
            body: || json!({"model": "minilm", "prompt": "Hello", "options": {"num_ctx": 256}}),
        }],
    }),
    fails: Fails::Model,
    answers: |answers| {
        answers.json::<OneEmbedding>();
    },
};

async fn embed(
    State(hub): State<Hub>,
    State(metrics): State<Metrics>,
    Asker(asker): Asker,
    JsonBody(fields): JsonBody,
) -> Result<Response, ApiError> {
    let start = Instant::now();
    let call = Call::try_from(fields)?;
    let model = installed_name(&hub, call.model).await?;
    let request = EmbedRequest::new(&model, call.inputs);
    let request = request.options(call.options).keep_alive(call.keep_alive);
    let reply = hub.embed(request.caller(asker)).await?;
    metrics.read(reply.prompt_tokens);
    let answer = Embeddings {
        model: &model,
        embeddings: reply.vectors,
        total_duration: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
        load_duration: 0,
        prompt_eval_count: reply.prompt_tokens,
    };
    Ok(json::response(StatusCode::OK, json::to_vec(&answer)))
}

async fn embed_one(
    State(hub): State<Hub>,
    State(metrics): State<Metrics>,
    Asker(asker): Asker,
    JsonBody(fields): JsonBody,
) -> Result<Response, ApiError> {
    let call = Call::of_one(fields)?;
    let model = installed_name(&hub, call.model).await?;
    let request = EmbedRequest::new(model, call.inputs).options(call.options).keep_alive(call.keep_alive);
    let reply = hub.embed(request.caller(asker)).await?;
    metrics.read(reply.prompt_tokens);
    let embedding = reply.vectors.into_iter().next().unwrap_or_default();
    Ok(json::response(StatusCode::OK, json::to_vec(&OneEmbedding { embedding })))
}

/// An input as it may be written.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a string or an array of strings")]
enum WireInput {
    Text(String),
    Texts(#[schemars(length(max = MAX_INPUTS))] Vec<String>),
}

/// A request in the hub's own terms.
struct Call {
    model: String,
    inputs: Vec<Input>,
    options: EmbedOptions,
    keep_alive: Option<KeepAlive>,
}

impl TryFrom<Fields> for Call {
    type Error = ApiError;

    fn try_from(mut fields: Fields) -> Result<Self, ApiError> {
        let model = fields.require("model")?;
        let inputs = match fields.require("input")? {
            WireInput::Text(text) => vec![text],
            WireInput::Texts(texts) => texts,
        };
        if inputs.len() > MAX_INPUTS {
            let message = format!("`input` must hold at most {MAX_INPUTS} inputs, not {}", inputs.len());
            return Err(ApiError::invalid("input", message));
        }
        let mut wanted = EmbedOptions::default();
        wanted.dimensions = fields.number("dimensions", 1..=usize::MAX)?;
        if fields.take::<bool>("truncate")? != Some(false) {
            wanted.too_long = TooLong::Cut;
        }
        let keep_alive = options::take_keep_alive(&mut fields)?;
        finish(fields)?;
        Ok(Self { model, keep_alive, inputs: inputs.into_iter().map(Input::Text).collect(), options: wanted })
    }
}

impl Call {
    fn of_one(mut fields: Fields) -> Result<Self, ApiError> {
        let model = fields.require("model")?;
        let text: String = fields.require("prompt")?;
        let keep_alive = options::take_keep_alive(&mut fields)?;
        finish(fields)?;
        let mut options = EmbedOptions::default();
        options.too_long = TooLong::Cut;
        Ok(Self { model, keep_alive, inputs: vec![Input::Text(text)], options })
    }
}

/// Reads the options, which change no vector, and refuses what is left.
fn finish(mut fields: Fields) -> Result<(), ApiError> {
    options::take(&mut fields)?;
    fields.finish(&[])
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "OllamaEmbeddings")]
struct Embeddings<'a> {
    model: &'a str,
    embeddings: Vec<Vec<f32>>,
    /// In nanoseconds.
    total_duration: u64,
    load_duration: u64,
    /// Tokens of all inputs.
    prompt_eval_count: usize,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "OllamaEmbedding")]
struct OneEmbedding {
    embedding: Vec<f32>,
}
