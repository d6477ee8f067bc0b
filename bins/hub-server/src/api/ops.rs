//! `/health`, `/ready` and `/metrics`, for supervisors. They need no key and tell nothing of what is said.

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::on,
};
use hub::{Hub, LoadingModel};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    json,
    metrics::{Metrics, Page},
    openapi::{Fails, Group, Operation, Verb},
};

pub(super) static OPERATIONS: &[&Operation] = &[&HEALTH, &READY, &METRICS];

static HEALTH: Operation = Operation {
    verb: Verb::Get,
    path: "/health",
    group: Group::Operations,
    summary: "Says that the server is alive",
    route: |method| on(method, health),
    body: None,
    fails: Fails::Never,
    answers: |answers| {
        answers.json::<Health>();
    },
};

static READY: Operation = Operation {
    verb: Verb::Get,
    path: "/ready",
    group: Group::Operations,
    summary: "Tells whether each part can serve",
    route: |method| on(method, ready),
    body: None,
    fails: Fails::Never,
    answers: |answers| {
        answers.json::<Ready>().json_with::<Ready>(503, "A part cannot serve.");
    },
};

static METRICS: Operation = Operation {
    verb: Verb::Get,
    path: "/metrics",
    group: Group::Operations,
    summary: "Counts what was done, as Prometheus reads it",
    route: |method| on(method, metrics),
    body: None,
    fails: Fails::Never,
    answers: |answers| {
        answers.text("text/plain");
    },
};

#[derive(JsonSchema, Serialize)]
struct Health {
    status: &'static str,
}

async fn health() -> Response {
    json::response(StatusCode::OK, json::to_vec(&Health { status: "ok" }))
}

#[derive(JsonSchema, Serialize)]
struct Ready {
    status: &'static str,
    store: Part,
    models: Models,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ReadyPart")]
struct Part {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ReadyModels")]
struct Models {
    status: &'static str,
    installed: usize,
    loaded: usize,
    /// Models that are being loaded, and how far that has come.
    loading: Vec<LoadingModel>,
}

/// Tells whether each part can serve. Models load on first use, so that none need be in memory.
async fn ready(State(hub): State<Hub>) -> Response {
    let models = hub.models().await;
    let (status, word) = match &models {
        Ok(_) => (StatusCode::OK, "ok"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let ready = Ready {
        status: word,
        store: Part { status: word, error: models.as_ref().err().map(ToString::to_string) },
        models: Models {
            status: word,
            installed: models.as_ref().map_or(0, Vec::len),
            loaded: hub.loaded().len(),
            loading: hub.loading(),
        },
    };
    json::response(status, json::to_vec(&ready))
}

async fn metrics(State(hub): State<Hub>, State(metrics): State<Metrics>) -> Response {
    let mut page = Page::default();
    metrics.write(&mut page);
    let account = hub.account();
    page.gauge("hub_memory_used_bytes", "Memory that models hold.", account.used_bytes());
    page.gauge("hub_memory_limit_bytes", "Memory that models may hold.", account.limit_bytes());
    let loaded = hub.loaded();
    page.gauge("hub_models_loaded", "Models in memory.", loaded.len());
    page.head("hub_model_running", "gauge", "Requests being answered, by model in memory.");
    for model in &loaded {
        page.sample("hub_model_running", &[("model", model.name.as_str())], model.running);
    }
    page.head("hub_model_waiting", "gauge", "Requests waiting for a place, by model in memory.");
    for model in &loaded {
        page.sample("hub_model_waiting", &[("model", model.name.as_str())], model.waiting);
    }
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, content_type)], page.into_text()).into_response()
}
