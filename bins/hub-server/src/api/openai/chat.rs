//! `POST /v1/chat/completions`

use axum::{extract::State, http::StatusCode, response::Response, routing::on};
use hub::{
    ChatRequest, Hub,
    models::{ChatPrompt, Delta, Prompt, TokenLogprob},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    messages,
    sampling::{self, Form, StreamUsage},
    wire::{Head, Timings, Usage, finish_word, finite, token_text},
};
use crate::{
    answer::{Answer, Choice},
    asker::Asker,
    body::JsonBody,
    error::ApiError,
    fields::{Fields, Idle, Unserved},
    json,
    metrics::Metrics,
    openapi::{Body, Example, Fails, Group, Operation, Verb},
    sse::{self, Chunks, write_event},
};

pub(super) static CREATE: Operation = Operation {
    verb: Verb::Post,
    path: "/v1/chat/completions",
    group: Group::OpenAi,
    summary: "Goes on with a conversation",
    route: |method| on(method, create),
    body: Some(Body { read: |fields| Call::try_from(fields).map(drop), examples: EXAMPLES }),
    fails: Fails::Model,
    answers: |answers| {
        answers.json::<Completion<'static>>().stream::<Chunk<'static>>("text/event-stream");
    },
};

static EXAMPLES: &[Example] = &[
    Example {
        name: "A question",
        body: || {
            json!({
                "model": "hub-guide",
                "messages": [{"role": "user", "content": "How do I import a model?"}],
                "max_completion_tokens": 48,
            })
        },
    },
    Example {
        name: "A stream",
        body: || {
            json!({
                "model": "hub-guide",
                "messages": [
                    {"role": "system", "content": "Answer briefly."},
                    {"role": "user", "content": [{"type": "text", "text": "How do I list my models?"}]},
                ],
                "temperature": 0,
                "max_completion_tokens": 24,
                "stream": true,
                "stream_options": {"include_usage": true},
            })
        },
    },
];

async fn create(
    State(hub): State<Hub>,
    State(metrics): State<Metrics>,
    Asker(asker): Asker,
    JsonBody(fields): JsonBody,
) -> Result<Response, ApiError> {
    let Call { request, form, shown } = Call::try_from(fields)?;
    let opening = Answer::open(hub, metrics, request.caller(asker), Vec::new(), shown.choices);
    let opening = async { opening.await.map_err(|error| error.about("messages")) };
    let head = Head::new("chatcmpl-");
    match form {
        Form::Whole => whole(opening.await?, &head, shown).await,
        Form::Stream(usage) => {
            let chunks = ChatChunks { head, model: String::new(), usage, shown };
            sse::respond(Box::pin(opening), chunks).await
        }
    }
}

/// A request in the hub's own terms.
struct Call {
    request: ChatRequest,
    form: Form,
    shown: Shown,
}

/// What an answer shows.
#[derive(Clone, Copy, Debug)]
struct Shown {
    choices: usize,
    logprobs: Logprobs,
    timings: bool,
}

/// Whether the probabilities of tokens are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Logprobs {
    Told,
    Untold,
}

/// Fields of OpenAI's that are not served, with the values that ask for nothing.
static UNSERVED: &[Unserved] = &[
    Unserved { name: "tools", idle: Idle::EmptyList },
    Unserved { name: "tool_choice", idle: Idle::Words(&["none"]) },
    // Without tools, which are refused, there is nothing to call in parallel.
    Unserved { name: "parallel_tool_calls", idle: Idle::Boolean },
    Unserved { name: "functions", idle: Idle::EmptyList },
    Unserved { name: "function_call", idle: Idle::Words(&["none"]) },
    Unserved { name: "response_format", idle: Idle::Exactly(|| serde_json::json!({"type": "text"})) },
    Unserved { name: "modalities", idle: Idle::Exactly(|| serde_json::json!(["text"])) },
    Unserved { name: "audio", idle: Idle::Never },
    Unserved { name: "prediction", idle: Idle::Never },
    Unserved { name: "web_search_options", idle: Idle::Never },
    Unserved { name: "verbosity", idle: Idle::Words(&["medium"]) },
    Unserved { name: "moderation", idle: Idle::Never },
    Unserved { name: "store", idle: Idle::False },
    Unserved { name: "prompt_cache_retention", idle: Idle::Never },
    // vLLM's, for conversations.
    Unserved { name: "best_of", idle: Idle::Is(1.0) },
    Unserved { name: "echo", idle: Idle::False },
    Unserved { name: "add_generation_prompt", idle: Idle::True },
    Unserved { name: "continue_final_message", idle: Idle::False },
    Unserved { name: "add_special_tokens", idle: Idle::False },
    Unserved { name: "chat_template", idle: Idle::Never },
    Unserved { name: "documents", idle: Idle::EmptyList },
];

impl TryFrom<Fields> for Call {
    type Error = ApiError;

    fn try_from(mut fields: Fields) -> Result<Self, ApiError> {
        let model: String = fields.require("model")?;
        let messages = fields.objects("messages", 1)?;
        let messages = messages::read(fields.needed("messages", messages)?)?;
        let kwargs = take_template_kwargs(&mut fields)?;
        let mut options = sampling::take_options(&mut fields, 1)?;
        let newer_name = fields.number("max_completion_tokens", 1..=usize::MAX)?;
        if newer_name.is_some() && options.max_tokens.is_some() && newer_name != options.max_tokens {
            let message =
                "`max_tokens` is the old name of `max_completion_tokens`; they say different things";
            return Err(ApiError::invalid("max_tokens", message));
        }
        options.max_tokens = newer_name.or(options.max_tokens);
        let top = fields.number("top_logprobs", 0..=20)?;
        let logprobs = match fields.take::<bool>("logprobs")? {
            Some(true) => Logprobs::Told,
            Some(false) | None => Logprobs::Untold,
        };
        options.logprobs = match logprobs {
            Logprobs::Told => Some(top.unwrap_or(0)),
            Logprobs::Untold if top.is_some_and(|top| top > 0) => {
                return Err(ApiError::invalid("top_logprobs", "`top_logprobs` needs `\"logprobs\": true`"));
            }
            Logprobs::Untold => None,
        };
        let form = sampling::take_form(&mut fields)?;
        let timings = sampling::take_timings(&mut fields)?;
        let shown = Shown { choices: options.choices.get() as usize, logprobs, timings };
        fields.finish(&[UNSERVED, sampling::UNSERVED])?;
        let prompt = Prompt::Chat(ChatPrompt::new(messages).template_kwargs(kwargs));
        Ok(Self { request: ChatRequest::new(model, prompt).options(options), form, shown })
    }
}

/// Takes what the template is told: `chat_template_kwargs`, and `reasoning_effort`, which is one of them.
fn take_template_kwargs(fields: &mut Fields) -> Result<Map<String, Value>, ApiError> {
    let efforts = ["none", "minimal", "low", "medium", "high", "xhigh"].map(|effort| (effort, Some(effort)));
    let mut kwargs: Map<String, Value> = fields.take("chat_template_kwargs")?.unwrap_or_default();
    if let Some(effort) = fields.word("reasoning_effort", &efforts)? {
        // Templates that only know thinking on and off call it so.
        if effort == "none" {
            kwargs.entry("enable_thinking").or_insert(Value::Bool(false));
        }
        kwargs.entry("reasoning_effort").or_insert(effort.into());
    }
    Ok(kwargs)
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ChatCompletion")]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<WholeChoice<'a>>,
    usage: Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<Timings>,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ChatChoice")]
struct WholeChoice<'a> {
    index: usize,
    message: Message<'a>,
    logprobs: Option<TokenLogprobs<'a>>,
    finish_reason: Option<&'static str>,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ChatMessage")]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(flatten)]
    thought: Thought<'a>,
    refusal: Option<&'a str>,
}

/// What the model thought, under both names that clients read.
#[derive(Clone, Copy, Default, JsonSchema, Serialize)]
#[schemars(rename = "ChatThought")]
struct Thought<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
}

impl<'a> Thought<'a> {
    fn of(text: &'a str) -> Self {
        let text = Some(text).filter(|text| !text.is_empty());
        Self { reasoning: text, reasoning_content: text }
    }
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ChatLogprobs")]
struct TokenLogprobs<'a> {
    content: Vec<Token<'a>>,
    refusal: Option<&'a str>,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ChatToken")]
struct Token<'a> {
    token: std::borrow::Cow<'a, str>,
    logprob: f32,
    bytes: &'a [u8],
    top_logprobs: Vec<TopToken<'a>>,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ChatTopToken")]
struct TopToken<'a> {
    token: std::borrow::Cow<'a, str>,
    logprob: f32,
    bytes: &'a [u8],
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ChatChunk")]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [ChunkChoice<'a>],
    /// Left out, `null`, or the usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<Timings>,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ChatChunkChoice")]
struct ChunkChoice<'a> {
    index: usize,
    delta: ChunkDelta<'a>,
    logprobs: Option<TokenLogprobs<'a>>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, JsonSchema, Serialize)]
#[schemars(rename = "ChatDelta")]
struct ChunkDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(flatten)]
    thought: Thought<'a>,
}

fn token_logprobs(logprobs: &[TokenLogprob]) -> TokenLogprobs<'_> {
    let content = logprobs.iter().map(|token| Token {
        token: token_text(&token.bytes),
        logprob: finite(token.logprob),
        bytes: &token.bytes,
        top_logprobs: token.top.iter().map(top_token).collect(),
    });
    TokenLogprobs { content: content.collect(), refusal: None }
}

fn top_token(token: &TokenLogprob) -> TopToken<'_> {
    TopToken { token: token_text(&token.bytes), logprob: finite(token.logprob), bytes: &token.bytes }
}

fn whole_choice(index: usize, choice: &Choice, logprobs: Logprobs) -> WholeChoice<'_> {
    WholeChoice {
        index,
        message: Message {
            role: "assistant",
            content: &choice.text,
            thought: Thought::of(&choice.reasoning),
            refusal: None,
        },
        logprobs: (logprobs == Logprobs::Told).then(|| token_logprobs(&choice.logprobs)),
        finish_reason: choice.finish.map(finish_word),
    }
}

/// Answers with one object when everything is generated.
async fn whole(answer: Answer, head: &Head, shown: Shown) -> Result<Response, ApiError> {
    let mut headers = axum::http::HeaderMap::new();
    answer.write_headers(&mut headers);
    let model = answer.model().to_owned();
    let (collected, usage) = answer.collect(shown.choices).await?;
    let completion = Completion {
        id: &head.id,
        object: "chat.completion",
        created: head.created,
        model: &model,
        choices: collected
            .iter()
            .enumerate()
            .map(|(at, choice)| whole_choice(at, choice, shown.logprobs))
            .collect(),
        usage: usage.into(),
        timings: shown.timings.then(|| usage.into()),
    };
    let mut response = json::response(StatusCode::OK, json::to_vec(&completion));
    response.headers_mut().extend(headers);
    Ok(response)
}

/// Writes the events of a conversation.
struct ChatChunks {
    head: Head,
    model: String,
    usage: StreamUsage,
    shown: Shown,
}

impl ChatChunks {
    fn write(&self, choices: &[ChunkChoice<'_>], out: &mut Vec<u8>) {
        self.write_with(choices, None, None, out);
    }

    fn write_with(
        &self,
        choices: &[ChunkChoice<'_>],
        usage: Option<Usage>,
        timings: Option<Timings>,
        out: &mut Vec<u8>,
    ) {
        let chunk = Chunk {
            id: &self.head.id,
            object: "chat.completion.chunk",
            created: self.head.created,
            model: &self.model,
            choices,
            usage: (self.usage == StreamUsage::Told).then_some(usage),
            timings,
        };
        write_event(out, &chunk);
    }
}

impl Chunks for ChatChunks {
    fn begin(&mut self, model: &str, out: &mut Vec<u8>) {
        model.clone_into(&mut self.model);
        for index in 0..self.shown.choices {
            let delta = ChunkDelta { role: Some("assistant"), content: Some(""), ..ChunkDelta::default() };
            self.write(&[ChunkChoice { index, delta, logprobs: None, finish_reason: None }], out);
        }
    }

    fn piece(&mut self, piece: Delta, out: &mut Vec<u8>) {
        let index = piece.choice;
        if !piece.text.is_empty() || !piece.reasoning.is_empty() || !piece.logprobs.is_empty() {
            let thought = Thought::of(&piece.reasoning);
            let content =
                (thought.reasoning.is_none() || !piece.text.is_empty()).then_some(piece.text.as_str());
            let delta = ChunkDelta { role: None, content, thought };
            let logprobs = (self.shown.logprobs == Logprobs::Told).then(|| token_logprobs(&piece.logprobs));
            self.write(&[ChunkChoice { index, delta, logprobs, finish_reason: None }], out);
        }
        if let Some(finish) = piece.finish.map(finish_word) {
            let delta = ChunkDelta::default();
            let choice = ChunkChoice { index, delta, logprobs: None, finish_reason: Some(finish) };
            let timings = piece.usage.filter(|_| self.shown.timings).map(Timings::from);
            self.write_with(&[choice], None, timings, out);
        }
        if let Some(usage) = piece.usage
            && self.usage == StreamUsage::Told
        {
            self.write_with(&[], Some(usage.into()), None, out);
        }
    }
}
