//! `/openapi.json`, and `/docs`, a page that shows it. The page asks nobody but this server.

use std::sync::LazyLock;

use axum::{
    body::{Body, Bytes},
    extract::{Path, rejection::PathRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::on,
};

use crate::{
    error::ApiError,
    json,
    openapi::{self, Fails, Group, Operation, Verb},
};

pub(super) static OPERATIONS: &[&Operation] = &[&DOCUMENT, &PAGE, &ASSET];

static DOCUMENT: Operation = Operation {
    verb: Verb::Get,
    path: "/openapi.json",
    group: Group::Operations,
    summary: "Describes every operation, as OpenAPI 3.1 does",
    route: |method| on(method, document),
    body: None,
    fails: Fails::Never,
    answers: |answers| {
        answers.json::<serde_json::Map<String, serde_json::Value>>();
    },
};

static PAGE: Operation = Operation {
    verb: Verb::Get,
    path: "/docs",
    group: Group::Operations,
    summary: "Shows every operation to a reader, who can try it",
    route: |method| on(method, page),
    body: None,
    fails: Fails::Never,
    answers: |answers| {
        answers.text("text/html");
    },
};

static ASSET: Operation = Operation {
    verb: Verb::Get,
    path: "/docs/{file}",
    group: Group::Operations,
    summary: "The stylesheet and the script of the page",
    route: |method| on(method, asset),
    body: None,
    fails: Fails::Never,
    answers: |answers| {
        answers.text("text/css").text("text/javascript");
    },
};

/// The files that the page needs, with what they are.
static ASSETS: [(&str, &str, &str); 2] = [
    ("page.css", "text/css; charset=utf-8", include_str!("page.css")),
    ("page.js", "text/javascript; charset=utf-8", include_str!("page.js")),
];

/// Nothing but the page's own files and this server.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The document, written once: it is the same for as long as the program runs.
static WRITTEN: LazyLock<Bytes> =
    LazyLock::new(|| json::to_vec(&openapi::write(&super::operations())).into());

async fn document() -> Response {
    let mut response = Response::new(Body::from(WRITTEN.clone()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn page() -> Response {
    file("text/html; charset=utf-8", include_str!("page.html"))
}

async fn asset(name: Result<Path<String>, PathRejection>) -> Result<Response, ApiError> {
    // A name that is no text is nobody's.
    let name = name.map_or_else(|_| String::new(), |Path(name)| name);
    let found = ASSETS.iter().find(|(known, ..)| *known == name);
    let Some((_, content_type, text)) = found else {
        let message = format!("the page has no file {name:?}");
        return Err(ApiError::new(StatusCode::NOT_FOUND, message).code("not_found"));
    };
    Ok(file(content_type, text))
}

fn file(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // Another version of the program has another page under this name.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text).into_response()
}
