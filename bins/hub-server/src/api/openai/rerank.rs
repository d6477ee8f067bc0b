//! `POST /v1/rerank`, in the shape that Jina's and Cohere's clients share.

use axum::{extract::State, http::StatusCode, response::Response, routing::on};
use hub::{Hub, RerankRequest, models::RerankOptions};
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
    trace::new_id,
};

/// The most documents of a request.
const MAX_DOCUMENTS: usize = 2_048;

pub(super) static CREATE: Operation = Operation {
    verb: Verb::Post,
    path: "/v1/rerank",
    group: Group::OpenAi,
    summary: "Sorts documents by how well they answer a query",
    route: |method| on(method, create),
    body: Some(Body { read: |fields| Call::try_from(fields).map(drop), examples: EXAMPLES }),
    fails: Fails::Model,
    answers: |answers| {
        answers.json::<Ranking<'static>>();
    },
};

static EXAMPLES: &[Example] = &[Example {
    name: "Two documents",
    body: || {
        json!({
            "model": "bge-reranker",
            "query": "How do I import a model?",
            "documents": ["Use `hub import`.", {"text": "The sky is blue."}],
            "top_n": 1,
            "return_documents": true,
        })
    },
}];

async fn create(
    State(hub): State<Hub>,
    State(metrics): State<Metrics>,
    Asker(asker): Asker,
    JsonBody(fields): JsonBody,
) -> Result<Response, ApiError> {
    let Call { request, top, documents } = Call::try_from(fields)?;
    let texts = match documents {
        Documents::Told => request.documents.clone(),
        Documents::Untold => Vec::new(),
    };
    let reply =
        hub.rerank(request.caller(asker)).await.map_err(|error| ApiError::from(error).about("documents"))?;
    metrics.read(reply.prompt_tokens);
    let results = reply.best(top).into_iter().map(|(index, relevance_score)| Scored {
        index,
        relevance_score,
        document: texts.get(index).map(|text| Document { text }),
    });
    let ranking = Ranking {
        id: new_id("rerank-"),
        model: reply.model.as_str(),
        results: results.collect(),
        usage: ReadUsage::new(reply.prompt_tokens),
    };
    let mut response = json::response(StatusCode::OK, json::to_vec(&ranking));
    write_route(response.headers_mut(), reply.model.as_str(), &reply.route);
    Ok(response)
}

/// A request in the hub's own terms.
struct Call {
    request: RerankRequest,
    top: usize,
    documents: Documents,
}

/// Whether the documents come back with their scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Documents {
    Told,
    Untold,
}

/// A document as it may be written.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a string or an object with `text`")]
enum WireDocument {
    Text(String),
    Object(TextObject),
}

#[derive(Deserialize, JsonSchema)]
struct WireDocuments(#[schemars(length(min = 1, max = MAX_DOCUMENTS))] Vec<WireDocument>);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TextObject {
    text: String,
}

static UNSERVED: &[Unserved] = &[
    Unserved { name: "rank_fields", idle: Idle::Never },
    Unserved { name: "max_chunks_per_doc", idle: Idle::Never },
    Unserved { name: "max_tokens_per_doc", idle: Idle::Never },
    Unserved { name: "truncate_prompt_tokens", idle: Idle::Never },
];

impl TryFrom<Fields> for Call {
    type Error = ApiError;

    fn try_from(mut fields: Fields) -> Result<Self, ApiError> {
        let model: String = fields.require("model")?;
        let query: String = fields.require("query")?;
        let WireDocuments(documents) = fields.require("documents")?;
        if !(1..=MAX_DOCUMENTS).contains(&documents.len()) {
            let message =
                format!("`documents` must hold from 1 to {MAX_DOCUMENTS} documents, not {}", documents.len());
            return Err(ApiError::invalid("documents", message));
        }
        let text = |document| match document {
            WireDocument::Text(text) | WireDocument::Object(TextObject { text }) => text,
        };
        let documents = documents.into_iter().map(text).collect();
        let top = fields.number("top_n", 1..=usize::MAX)?.unwrap_or(usize::MAX);
        let told = match fields.take::<bool>("return_documents")? {
            Some(true) => Documents::Told,
            Some(false) | None => Documents::Untold,
        };
        let mut options = RerankOptions::default();
        options.instruction = fields.take("instruction")?;
        fields.finish(&[UNSERVED])?;
        let request = RerankRequest::new(model, query, documents).options(options);
        Ok(Self { request, top, documents: told })
    }
}

#[derive(JsonSchema, Serialize)]
struct Ranking<'a> {
    id: String,
    model: &'a str,
    results: Vec<Scored<'a>>,
    usage: ReadUsage,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "RankedDocument")]
struct Scored<'a> {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Document<'a>>,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "RankedText")]
struct Document<'a> {
    text: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_texts_or_objects() {
        let json =
            r#"{"model":"m","query":"q","documents":["a",{"text":"b"}],"top_n":1,"return_documents":true}"#;
        let call = Call::try_from(Fields::parse(json.as_bytes()).unwrap()).unwrap();
        assert_eq!(call.request.documents, ["a", "b"]);
        assert_eq!((call.top, call.documents), (1, Documents::Told));
    }
}
