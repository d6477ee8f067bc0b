//! `/api/embed`, and `/api/embeddings` of older clients

use std::time::Instant;

use axum::{Router, extract::State, http::StatusCode, response::Response, routing::post};
use hub::{
    EmbedRequest, Hub,
    models::{EmbedOptions, Input, TooLong},
};
use serde_json::json;

use super::{options, wire::installed_name};
use crate::{
    asker::Asker, body::JsonBody, error::ApiError, fields::Fields, json, metrics::Metrics, state::AppState,
};

/// The most inputs of a request.
const MAX_INPUTS: usize = 2_048;

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/api/embed", post(embed)).route("/api/embeddings", post(embed_one))
}

async fn embed(
    State(hub): State<Hub>,
    State(metrics): State<Metrics>,
    Asker(asker): Asker,
    JsonBody(mut fields): JsonBody,
) -> Result<Response, ApiError> {
    let start = Instant::now();
    let model = installed_name(&hub, fields.require("model")?).await?;
    let inputs: Vec<String> = match fields.require_value("input")? {
        serde_json::Value::String(text) => vec![text],
        list => serde_json::from_value(list)
            .map_err(|_| ApiError::invalid("input", "`input` must be a string or an array of strings"))?,
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
    let request = EmbedRequest::new(&model, inputs.into_iter().map(Input::Text).collect());
    let reply = hub.embed(request.options(wanted).keep_alive(keep_alive).caller(asker)).await?;
    metrics.read(reply.prompt_tokens);
    let total = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let answer = json!({
        "model": model,
        "embeddings": reply.vectors,
        "total_duration": total,
        "load_duration": 0,
        "prompt_eval_count": reply.prompt_tokens,
    });
    Ok(json::response(StatusCode::OK, json::to_vec(&answer)))
}

async fn embed_one(
    State(hub): State<Hub>,
    State(metrics): State<Metrics>,
    Asker(asker): Asker,
    JsonBody(mut fields): JsonBody,
) -> Result<Response, ApiError> {
    let model = installed_name(&hub, fields.require("model")?).await?;
    let text: String = fields.require("prompt")?;
    let keep_alive = options::take_keep_alive(&mut fields)?;
    finish(fields)?;
    let mut wanted = EmbedOptions::default();
    wanted.too_long = TooLong::Cut;
    let request = EmbedRequest::new(model, vec![Input::Text(text)]).options(wanted).keep_alive(keep_alive);
    let reply = hub.embed(request.caller(asker)).await?;
    metrics.read(reply.prompt_tokens);
    let vector = reply.vectors.into_iter().next().unwrap_or_default();
    Ok(json::response(StatusCode::OK, json::to_vec(&json!({ "embedding": vector }))))
}

/// Reads the options, which change no vector, and refuses what is left.
fn finish(mut fields: Fields) -> Result<(), ApiError> {
    options::take(&mut fields)?;
    fields.finish(&[])
}
