//! `POST /v1/embeddings`

use axum::{extract::State, http::StatusCode, response::Response, routing::on};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hub::{
    EmbedRequest, Hub,
    models::{EmbedOptions, EmbedPrompt, Input},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::wire::ReadUsage;
use crate::{
    answer::write_route,
    asker::Asker,
    body::JsonBody,
    error::ApiError,
    fields::{Fields, Idle, Unserved},
    json,
    metrics::Metrics,
    openapi::{Body, Example, Fails, Group, Operation, Verb},
};

/// The most inputs of a request, as in OpenAI's API.
const MAX_INPUTS: usize = 2_048;

pub(super) static CREATE: Operation = Operation {
    verb: Verb::Post,
    path: "/v1/embeddings",
    group: Group::OpenAi,
    summary: "Turns texts into vectors",
    route: |method| on(method, create),
    body: Some(Body { read: |fields| Call::try_from(fields).map(drop), examples: EXAMPLES }),
    fails: Fails::Model,
    answers: |answers| {
        answers.json::<List<'static>>();
    },
};

static EXAMPLES: &[Example] = &[
    Example { name: "Two texts", body: || json!({"model": "minilm", "input": ["Xin chào", "Hello"]}) },
    Example {
        name: "What is searched for",
        body: || json!({"model": "qwen3-embedding", "input": "phở bò ở đâu?", "prompt_name": "query"}),
    },
    Example {
        name: "One text, as base64",
        body: || json!({"model": "minilm", "input": "Hello", "encoding_format": "base64"}),
    },
];

async fn create(
    State(hub): State<Hub>,
    State(metrics): State<Metrics>,
    Asker(asker): Asker,
    JsonBody(fields): JsonBody,
) -> Result<Response, ApiError> {
    let Call { request, encoding } = Call::try_from(fields)?;
    let wants = request.options.clone();
    let reply =
        hub.embed(request.caller(asker)).await.map_err(|error| ApiError::from(error).about("input"))?;
    metrics.read(reply.prompt_tokens);
    let data = reply.vectors.iter().enumerate().map(|(index, vector)| {
        let forms = reply.forms.get(index);
        let sparse = forms.filter(|_| wants.sparse).map(|forms| Sparse {
            indices: forms.sparse.iter().map(|(token, _)| *token).collect(),
            values: forms.sparse.iter().map(|(_, weight)| *weight).collect(),
        });
        Embedding {
            object: "embedding",
            index,
            embedding: match encoding {
                Encoding::Float => Vector::Numbers(vector),
                Encoding::Base64 => Vector::Base64(base64_of(vector)),
            },
            sparse,
            multi_vector: forms.filter(|_| wants.multi_vector).map(|forms| &*forms.multi_vector),
        }
    });
    let list = List {
        object: "list",
        data: data.collect(),
        model: reply.model.as_str(),
        usage: ReadUsage::new(reply.prompt_tokens),
    };
    let mut response = json::response(StatusCode::OK, json::to_vec(&list));
    write_route(response.headers_mut(), reply.model.as_str(), &reply.route);
    Ok(response)
}

/// A request in the hub's own terms.
struct Call {
    request: EmbedRequest,
    encoding: Encoding,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Encoding {
    #[default]
    Float,
    /// Little-endian `f32`, which OpenAI's clients ask for unless they are told otherwise.
    Base64,
}

/// An input as it may be written.
#[derive(Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a string, an array of strings, an array of token ids, or an array of arrays of those"
)]
enum WireInput {
    Text(String),
    Texts(#[schemars(length(min = 1, max = MAX_INPUTS))] Vec<String>),
    Tokens(#[schemars(length(min = 1))] Vec<u32>),
    TokenLists(#[schemars(length(min = 1, max = MAX_INPUTS), inner(length(min = 1)))] Vec<Vec<u32>>),
}

static UNSERVED: &[Unserved] = &[
    Unserved { name: "user", idle: Idle::Text },
    Unserved { name: "truncate_prompt_tokens", idle: Idle::Never },
];

impl TryFrom<Fields> for Call {
    type Error = ApiError;

    fn try_from(mut fields: Fields) -> Result<Self, ApiError> {
        let model: String = fields.require("model")?;
        let inputs: Vec<Input> = match fields.require("input")? {
            WireInput::Text(text) => vec![Input::Text(text)],
            WireInput::Texts(texts) => texts.into_iter().map(Input::Text).collect(),
            WireInput::Tokens(tokens) => vec![Input::Tokens(tokens)],
            WireInput::TokenLists(lists) => lists.into_iter().map(Input::Tokens).collect(),
        };
        if !(1..=MAX_INPUTS).contains(&inputs.len()) {
            let message = format!("`input` must hold from 1 to {MAX_INPUTS} inputs, not {}", inputs.len());
            return Err(ApiError::invalid("input", message));
        }
        let encoding = fields.take("encoding_format")?.unwrap_or_default();
        let mut options = EmbedOptions::default();
        options.dimensions = fields.number("dimensions", 1..=usize::MAX)?;
        options.prompt =
            fields.take::<String>("prompt_name")?.map_or_else(EmbedPrompt::default, EmbedPrompt::from);
        options.sparse = fields.take("sparse")?.unwrap_or(false);
        options.multi_vector = fields.take("multi_vector")?.unwrap_or(false);
        fields.finish(&[UNSERVED])?;
        Ok(Self { request: EmbedRequest::new(model, inputs).options(options), encoding })
    }
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "EmbeddingList")]
struct List<'a> {
    object: &'static str,
    data: Vec<Embedding<'a>>,
    model: &'a str,
    usage: ReadUsage,
}

#[derive(JsonSchema, Serialize)]
struct Embedding<'a> {
    object: &'static str,
    index: usize,
    embedding: Vector<'a>,
    /// The weight of each token, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    sparse: Option<Sparse>,
    /// A vector for each token but the first, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    multi_vector: Option<&'a [Vec<f32>]>,
}

/// Weights by token.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "SparseEmbedding")]
struct Sparse {
    /// Token ids, in their order.
    indices: Vec<u32>,
    /// Their weights.
    values: Vec<f32>,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "EmbeddingVector")]
#[serde(untagged)]
enum Vector<'a> {
    Numbers(&'a [f32]),
    Base64(String),
}

fn base64_of(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_little_endian() {
        // base64.b64encode(numpy.array([1.0, -2.5], dtype="<f4").tobytes())
        assert_eq!(base64_of(&[1.0, -2.5]), "AACAPwAAIMA=");
    }

    #[track_caller]
    fn check(json: &str, expected: &[Input]) {
        let call = Call::try_from(Fields::parse(json.as_bytes()).unwrap()).unwrap();
        assert_eq!(call.request.inputs, expected);
    }

    #[test]
    fn inputs_come_in_four_forms() {
        check(r#"{"model":"m","input":"a"}"#, &[Input::from("a")]);
        check(r#"{"model":"m","input":["a","b"]}"#, &[Input::from("a"), Input::from("b")]);
        check(r#"{"model":"m","input":[1,2]}"#, &[Input::Tokens(vec![1, 2])]);
        check(r#"{"model":"m","input":[[1],[2]]}"#, &[Input::Tokens(vec![1]), Input::Tokens(vec![2])]);
    }
}
