//! `/api/chat` and `/api/generate`

use std::time::{Duration, SystemTime};

use axum::{extract::State, http::StatusCode, response::Response, routing::on};
use hub::{
    ChatRequest, Hub,
    base::ProgressSink,
    config::KeepAlive,
    models::{ChatPrompt, Delta, FinishReason, GenerateOptions, Prompt, Usage, chat::Message},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{
    options::{self, UNSERVED},
    wire::{Took, done_reason, installed_name, moment},
};
use crate::{
    answer::Answer,
    api::openai::messages,
    asker::Asker,
    body::JsonBody,
    error::ApiError,
    fields::Fields,
    json,
    metrics::Metrics,
    openapi::{Answers, Body, Example, Fails, Group, Operation, Verb},
    sse::{self, Chunks},
};

pub(super) static CHAT: Operation = Operation {
    verb: Verb::Post,
    path: "/api/chat",
    group: Group::Ollama,
    summary: "Goes on with a conversation; without messages, loads the model",
    route: |method| on(method, chat),
    body: Some(Body { read: |fields| Call::chat(fields).map(drop), examples: CHAT_EXAMPLES }),
    fails: Fails::Model,
    answers,
};

pub(super) static GENERATE: Operation = Operation {
    verb: Verb::Post,
    path: "/api/generate",
    group: Group::Ollama,
    summary: "Goes on with a text; without one, loads the model",
    route: |method| on(method, generate),
    body: Some(Body { read: |fields| Call::generate(fields).map(drop), examples: GENERATE_EXAMPLES }),
    fails: Fails::Model,
    answers,
};

fn answers(answers: &mut Answers<'_>) {
    answers.json::<Line<'static>>().stream::<Line<'static>>(Lines::CONTENT_TYPE);
}

static CHAT_EXAMPLES: &[Example] = &[
    Example {
        name: "A question",
        body: || {
            json!({
                "model": "hub-guide",
                "messages": [{"role": "user", "content": "How do I import a model?"}],
                "options": {"temperature": 0, "num_predict": 24},
            })
        },
    },
    Example {
        name: "Parts, in one answer",
        body: || {
            json!({
                "model": "hub-guide:latest",
                "messages": [{"role": "user", "content": [{"type": "text", "text": "How do I list my models?"}]}],
                "options": {"num_predict": 24},
                "stream": false,
            })
        },
    },
];

static GENERATE_EXAMPLES: &[Example] = &[Example {
    name: "A text",
    body: || {
        json!({
            "model": "hub-guide",
            "prompt": "How do I import a model?",
            "options": {"num_predict": 24},
            "stream": false,
        })
    },
}];

/// Where the text of an answer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// In `message.content`.
    Chat,
    /// In `response`.
    Generate,
}

async fn chat(
    State(hub): State<Hub>,
    State(metrics): State<Metrics>,
    Asker(asker): Asker,
    JsonBody(fields): JsonBody,
) -> Result<Response, ApiError> {
    respond(hub, metrics, asker, Call::chat(fields)?, Form::Chat).await
}

async fn generate(
    State(hub): State<Hub>,
    State(metrics): State<Metrics>,
    Asker(asker): Asker,
    JsonBody(fields): JsonBody,
) -> Result<Response, ApiError> {
    respond(hub, metrics, asker, Call::generate(fields)?, Form::Generate).await
}

async fn respond(
    hub: Hub,
    metrics: Metrics,
    asker: hub::Caller,
    call: Call,
    form: Form,
) -> Result<Response, ApiError> {
    let model = installed_name(&hub, call.model).await?;
    let Some(prompt) = call.prompt else { return load(&hub, model, call.keep_alive, form).await };
    let request = ChatRequest::new(model, prompt).options(call.options).keep_alive(call.keep_alive);
    answer(hub, metrics, request.caller(asker), call.is_stream, form).await
}

/// A request in the hub's own terms.
struct Call {
    model: String,
    /// Nothing to answer: the model is loaded.
    prompt: Option<Prompt>,
    options: GenerateOptions,
    keep_alive: Option<KeepAlive>,
    is_stream: bool,
}

impl Call {
    fn chat(mut fields: Fields) -> Result<Self, ApiError> {
        let model = fields.require("model")?;
        let messages = messages::read(fields.objects("messages", 0)?.unwrap_or_default())?;
        let kwargs = options::take_think(&mut fields)?;
        let is_empty = messages.is_empty();
        let prompt = Prompt::Chat(ChatPrompt::new(messages).template_kwargs(kwargs));
        Self::finish(fields, model, Some(prompt).filter(|_| !is_empty))
    }

    fn generate(mut fields: Fields) -> Result<Self, ApiError> {
        let model = fields.require("model")?;
        let text: String = fields.take("prompt")?.unwrap_or_default();
        let is_empty = text.is_empty();
        let prompt = take_prompt(&mut fields, text)?;
        Self::finish(fields, model, Some(prompt).filter(|_| !is_empty))
    }

    fn finish(mut fields: Fields, model: String, prompt: Option<Prompt>) -> Result<Self, ApiError> {
        let is_stream = fields.take("stream")?.unwrap_or(true);
        let keep_alive = options::take_keep_alive(&mut fields)?;
        let options = options::take(&mut fields)?;
        fields.finish(&[UNSERVED])?;
        Ok(Self { model, prompt, options, keep_alive, is_stream })
    }
}

/// Makes the prompt of a text: as it is if it is `raw`, else as what a user says to a model with a chat template.
fn take_prompt(fields: &mut Fields, text: String) -> Result<Prompt, ApiError> {
    let kwargs = options::take_think(fields)?;
    let system: Option<String> = fields.take("system")?;
    if fields.take::<bool>("raw")? == Some(true) {
        return Ok(Prompt::Text(text));
    }
    if system.is_none() && kwargs.is_empty() {
        return Ok(Prompt::Question(text));
    }
    let opening = system.filter(|system| !system.is_empty()).map(Message::system);
    let messages = opening.into_iter().chain([Message::user(text)]).collect();
    Ok(Prompt::Chat(ChatPrompt::new(messages).template_kwargs(kwargs)))
}

/// Loads a model for whoever asks it nothing, as Ollama does; unloads it for whoever does not want it kept.
async fn load(
    hub: &Hub,
    model: String,
    keep_alive: Option<KeepAlive>,
    form: Form,
) -> Result<Response, ApiError> {
    let reason = match keep_alive {
        Some(KeepAlive::For(Duration::ZERO)) => {
            hub.unload(&model).await?;
            "unload"
        }
        keep_alive => {
            hub.load(&model, None, keep_alive, ProgressSink::default()).await?;
            "load"
        }
    };
    let line = Line::new(&model, form, "", "").done(reason, None);
    Ok(json::response(StatusCode::OK, json::to_vec(&line)))
}

async fn answer(
    hub: Hub,
    metrics: Metrics,
    request: ChatRequest,
    is_stream: bool,
    form: Form,
) -> Result<Response, ApiError> {
    let name = request.model.clone();
    let opening = Answer::open(hub, metrics, request, Vec::new(), 1);
    if is_stream {
        let lines = Lines { model: name, form, finish: FinishReason::Stop };
        return sse::respond(Box::pin(opening), lines).await;
    }
    let opened = opening.await?;
    let mut headers = axum::http::HeaderMap::new();
    opened.write_headers(&mut headers);
    let (mut choices, usage) = opened.collect(1).await?;
    let choice = choices.pop().unwrap_or_default();
    let reason = done_reason(choice.finish.unwrap_or(FinishReason::Stop));
    let line = Line::new(&name, form, &choice.text, &choice.reasoning).done(reason, Some(&usage));
    let mut response = json::response(StatusCode::OK, json::to_vec(&line));
    response.headers_mut().extend(headers);
    Ok(response)
}

/// One line of an answer; its only one if it is not streamed.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "OllamaLine")]
struct Line<'a> {
    model: &'a str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Said<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    done_reason: Option<&'static str>,
    #[serde(flatten)]
    took: Option<Took>,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "OllamaMessage")]
struct Said<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn new(model: &'a str, form: Form, text: &'a str, thought: &'a str) -> Self {
        let thinking = Some(thought).filter(|thought| !thought.is_empty());
        let (message, response, thinking) = match form {
            Form::Chat => (Some(Said { role: "assistant", content: text, thinking }), None, None),
            Form::Generate => (None, Some(text), thinking),
        };
        let created_at = moment(SystemTime::now());
        Self { model, created_at, message, response, thinking, done: false, done_reason: None, took: None }
    }

    fn done(mut self, reason: &'static str, usage: Option<&Usage>) -> Self {
        self.done = true;
        self.done_reason = Some(reason);
        self.took = usage.map(Took::of);
        self
    }
}

/// Writes an answer as lines of JSON.
struct Lines {
    model: String,
    form: Form,
    finish: FinishReason,
}

impl Lines {
    fn write(line: &Line<'_>, out: &mut Vec<u8>) {
        json::write(out, line);
        out.push(b'\n');
    }
}

impl Chunks for Lines {
    const CONTENT_TYPE: &'static str = "application/x-ndjson";
    // Space before the next line is passed over by whoever reads JSON. An empty line is not: Ollama's own command and its
    // client for Python take every line for JSON, and end with an error.
    const PING: &'static str = " ";

    fn begin(&mut self, _model: &str, _out: &mut Vec<u8>) {}

    fn piece(&mut self, piece: Delta, out: &mut Vec<u8>) {
        if !piece.text.is_empty() || !piece.reasoning.is_empty() {
            Self::write(&Line::new(&self.model, self.form, &piece.text, &piece.reasoning), out);
        }
        self.finish = piece.finish.unwrap_or(self.finish);
        if let Some(usage) = &piece.usage {
            let line = Line::new(&self.model, self.form, "", "").done(done_reason(self.finish), Some(usage));
            Self::write(&line, out);
        }
    }

    fn end(&mut self, _out: &mut Vec<u8>) {}

    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        out.extend_from_slice(&error.ollama());
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_spoils_no_line() {
        let mut out = [Lines::PING, Lines::PING].concat().into_bytes();
        Lines::write(&Line::new("tiny", Form::Chat, "hi", ""), &mut out);
        out.extend_from_slice(Lines::PING.as_bytes());
        Lines::write(&Line::new("tiny", Form::Chat, "", "").done("stop", None), &mut out);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["message"]["content"], &lines[1]["done"]), (&"hi".into(), &true.into()));
    }
}
