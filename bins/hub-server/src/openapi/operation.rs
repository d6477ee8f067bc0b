use axum::routing::{MethodFilter, MethodRouter};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::{
    error::ApiError,
    fields::{Fields, Notes},
    state::AppState,
};

/// One operation: how it is reached, who answers, and what it reads and writes.
pub(crate) struct Operation {
    pub(crate) verb: Verb,
    /// Its path, as the router matches it.
    pub(crate) path: &'static str,
    pub(crate) group: Group,
    /// What it does, in a line.
    pub(crate) summary: &'static str,
    /// Its handler, for a method.
    pub(crate) route: fn(MethodFilter) -> MethodRouter<AppState>,
    pub(crate) body: Option<Body>,
    pub(crate) fails: Fails,
    /// Says what it answers with.
    pub(crate) answers: fn(&mut Answers<'_>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
}

/// Operations that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    OpenAi,
    Ollama,
    Hub,
    Operations,
}

/// The body of a request.
pub(crate) struct Body {
    /// Takes a body apart as the handler does.
    pub(crate) read: fn(Fields) -> Result<(), ApiError>,
    /// Bodies that are accepted. Together they have every object that a body may have.
    pub(crate) examples: &'static [Example],
}

/// A body that is accepted.
pub(crate) struct Example {
    pub(crate) name: &'static str,
    pub(crate) body: fn() -> Value,
}

/// What an operation may fail by, besides what every one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fails {
    /// Nothing.
    Never,
    /// The store is busy or away.
    Store,
    /// The model is unknown, busy, or does not fit into memory.
    Model,
}

/// What an operation answers with.
pub(crate) struct Answers<'a> {
    generator: &'a mut SchemaGenerator,
    pub(super) responses: Map<String, Value>,
}

impl Verb {
    pub(crate) fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
        }
    }

    /// Returns its name in lower case, as OpenAPI writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
        }
    }
}

impl Group {
    pub(crate) const ALL: [Self; 4] = [Self::OpenAi, Self::Ollama, Self::Hub, Self::Operations];

    /// Returns its name, and what its operations have in common.
    pub(crate) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::OpenAi => ("OpenAI", "The API of OpenAI, and what its users expect beside it."),
            Self::Ollama => (
                "Ollama",
                "The API of Ollama. Names may end in `:latest`; answers stream unless `stream` is `false`.",
            ),
            Self::Hub => ("Hub", "What only this hub has."),
            Self::Operations => {
                ("Operations", "For supervisors and for readers of this page; no key is needed.")
            }
        }
    }
}

impl Body {
    /// Returns what the parser asks of the examples.
    pub(crate) fn notes(&self) -> Notes {
        let notes = Notes::default();
        for example in self.examples {
            if let Value::Object(map) = (example.body)() {
                // A test holds that every example is accepted; what was asked until a refusal is true all the same.
                let _ = (self.read)(Fields::example(map, notes.clone()));
            }
        }
        notes
    }
}

impl<'a> Answers<'a> {
    pub(super) fn new(generator: &'a mut SchemaGenerator) -> Self {
        Self { generator, responses: Map::new() }
    }

    /// A `T` as JSON.
    pub(crate) fn json<T: JsonSchema>(&mut self) -> &mut Self {
        self.json_with::<T>(200, "The answer.")
    }

    /// A `T` as JSON, with another status than 200.
    pub(crate) fn json_with<T: JsonSchema>(&mut self, status: u16, about: &str) -> &mut Self {
        let schema = self.generator.subschema_for::<T>().to_value();
        self.add(status, about, "application/json", schema)
    }

    /// A stream of many `T`: of events, each with one as its `data`, or of lines.
    pub(crate) fn stream<T: JsonSchema>(&mut self, content_type: &str) -> &mut Self {
        let schema = self.generator.subschema_for::<T>().to_value();
        self.add(200, "The answer.", content_type, schema)
    }

    /// Text of this kind.
    pub(crate) fn text(&mut self, content_type: &str) -> &mut Self {
        self.add(200, "The answer.", content_type, json!({ "type": "string" }))
    }

    fn add(&mut self, status: u16, about: &str, content_type: &str, schema: Value) -> &mut Self {
        let response =
            self.responses.entry(status.to_string()).or_insert_with(|| json!({ "description": about }));
        response["content"][content_type] = json!({ "schema": schema });
        self
    }
}
