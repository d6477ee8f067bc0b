use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use super::{Answers, Fails, Group, Operation, meaning, schema};
use crate::{
    access::{KEY_HEADERS, is_open},
    api::is_ollama,
    error::{Envelope, OllamaError},
};

/// What holds for all operations.
const ABOUT: &str = "A local AI backend.\n\n\
    A field that is `null` counts as absent. A field that is not served is refused by name; the few that are accepted and change nothing are said to. \
    Of a stream, the schema is that of one event's `data` or of one line; streams of events end with `data: [DONE]`, \
    and an error inside one is an event named `error`. A path that is not here is answered with 404, another method \
    with 405. The model `hub-guide` is always there; the other models of the examples are there once they are \
    installed under these names.";

/// Headers of answers: the name, what it says, and on which answers it stands.
const HEADERS: [(&str, &str, Stands); 5] = [
    (
        "x-request-id",
        "Names the request in logs and usage; the caller's own id, if it sent one.",
        Stands::Always,
    ),
    ("x-hub-model", "The model that answers.", Stands::OnModels),
    ("x-hub-route", "Why this model answers, in a word or two.", Stands::OnModels),
    ("retry-after", "Seconds until the same request may be answered.", Stands::On(&["429", "503"])),
    ("www-authenticate", "How to send a key.", Stands::On(&["401"])),
];

/// On which answers a header stands.
#[derive(Clone, Copy)]
enum Stands {
    Always,
    /// On answers of models, unless they wait for one and have begun already.
    OnModels,
    /// On these statuses.
    On(&'static [&'static str]),
}

impl Stands {
    fn on(self, operation: &Operation, status: &str) -> bool {
        match self {
            Self::Always => true,
            Self::OnModels => operation.group == Group::OpenAi && operation.body.is_some() && status == "200",
            Self::On(statuses) => statuses.contains(&status),
        }
    }
}

/// Describes operations as OpenAPI 3.1 does.
pub(crate) fn write(operations: &[&Operation]) -> Value {
    let mut generator = schema::written();
    let mut paths = Map::new();
    for operation in operations {
        let described = describe(operation, &mut generator);
        paths.entry(path_of(operation)).or_insert_with(|| json!({}))[operation.verb.name()] = described;
    }
    let keys =
        KEY_HEADERS.map(|name| (name.to_owned(), json!({ "type": "apiKey", "in": "header", "name": name })));
    let bearer = ("bearer".to_owned(), json!({ "type": "http", "scheme": "bearer" }));
    let schemes: Map<String, Value> = [bearer].into_iter().chain(keys).collect();
    let keyless = std::iter::once(json!({}));
    let security: Vec<Value> = keyless.chain(schemes.keys().map(|name| json!({ name: [] }))).collect();
    let mut schemas = generator.take_definitions(true);
    schemas.sort_keys();
    let groups = Group::ALL.map(|group| {
        let (name, about) = group.words();
        json!({ "name": name, "description": about })
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "AI Backend Hub",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": groups,
        "security": security,
        "paths": paths,
        "components": { "schemas": schemas, "headers": headers(), "securitySchemes": schemes },
    })
}

/// Returns the path as OpenAPI writes it, which knows no parameter of several parts.
pub(super) fn path_of(operation: &Operation) -> String {
    operation.path.replace("{*", "{")
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let path = path_of(operation);
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let id: Vec<&str> = std::iter::once(operation.verb.name()).chain(words).collect();
    let mut described = json!({
        "operationId": id.join("_"),
        "tags": [operation.group.words().0],
        "summary": operation.summary,
    });
    let parameters: Vec<Value> = parameters(&path).map(parameter).collect();
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if is_open(operation.path) {
        described["security"] = json!([]);
    }
    if let Some(body) = &operation.body {
        let examples = body.examples.iter();
        let examples: Map<String, Value> =
            examples.map(|example| (example.name.to_owned(), json!({ "value": (example.body)() }))).collect();
        let content = json!({ "schema": body.notes().schema(), "examples": examples });
        described["requestBody"] = json!({ "required": true, "content": { "application/json": content } });
    }
    described["responses"] = responses(operation, generator).into();
    described
}

fn responses(operation: &Operation, generator: &mut SchemaGenerator) -> Map<String, Value> {
    let error = if is_ollama(operation.path) {
        generator.subschema_for::<OllamaError>()
    } else {
        generator.subschema_for::<Envelope<'static>>()
    };
    let error = error.to_value();
    let mut answers = Answers::new(generator);
    (operation.answers)(&mut answers);
    let mut responses = answers.responses;
    for (status, about) in failures(operation) {
        let content = json!({ "application/json": { "schema": error } });
        let failure = json!({ "description": about, "content": content });
        responses.entry(status.to_string()).or_insert(failure);
    }
    responses.sort_keys();
    for (status, response) in &mut responses {
        let stands = HEADERS.iter().filter(|(.., stands)| stands.on(operation, status));
        let refer = |(name, ..): &(&str, _, _)| {
            ((*name).to_owned(), json!({ "$ref": format!("#/components/headers/{name}") }))
        };
        response["headers"] = stands.map(refer).collect::<Map<_, _>>().into();
    }
    responses
}

fn headers() -> Map<String, Value> {
    let header = |(name, about, stands): &(&str, &str, Stands)| {
        let is_always = matches!(stands, Stands::Always);
        let described =
            json!({ "description": about, "required": is_always, "schema": { "type": "string" } });
        ((*name).to_owned(), described)
    };
    HEADERS.iter().map(header).collect()
}

/// Returns the statuses of errors that an operation may answer with.
fn failures(operation: &Operation) -> Vec<(u16, &'static str)> {
    let mut failures = vec![
        (400, "The request cannot be meant, does not fit the model, or asks for what is not served."),
        (403, "The page or the name of the host that the request came by is not let in."),
        (500, "A defect of the server, or a damaged file."),
    ];
    if !is_open(operation.path) {
        failures.push((401, "The key is missing, unknown or revoked."));
    }
    if operation.body.is_some() {
        failures.push((408, "The body took too long to arrive."));
        failures.push((413, "The body is too large."));
    }
    if operation.path.contains('{') || operation.fails == Fails::Model {
        failures.push((404, "There is nothing of that name."));
    }
    if operation.fails != Fails::Never || !is_open(operation.path) {
        failures.push((429, "Too much is asked at once; `retry-after` says when to try again."));
        failures.push((503, "What is needed is not there now: memory, the store, or another machine."));
    }
    failures
}

fn parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// Values of parameters that are always there.
const EXAMPLES: [(&str, &str); 2] = [("id", "hub-guide"), ("file", "page.css")];

fn parameter(name: &str) -> Value {
    let schema = json!({ "type": "string", "minLength": 1 });
    let about = meaning(name).unwrap_or_default();
    let mut parameter =
        json!({ "name": name, "in": "path", "required": true, "description": about, "schema": schema });
    if let Some((_, example)) = EXAMPLES.iter().find(|(known, _)| *known == name) {
        parameter["example"] = (*example).into();
    }
    parameter
}
