//! `POST /v1/chat/completions`

use axum::{Router, extract::State, http::StatusCode, response::Response, routing::post};
use hub::{
    ChatRequest, Hub,
    models::{ChatPrompt, Delta, Prompt, TokenLogprob},
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    messages,
    sampling::{self, Form, StreamUsage, is_empty_list, is_false, is_never, is_true},
    wire::{Head, Timings, Usage, finish_word, finite, token_text},
};
use crate::{
    answer::{Answer, Choice},
    asker::Asker,
    body::JsonBody,
    error::ApiError,
    fields::{Fields, Unserved},
    json,
    metrics::Metrics,
    sse::{self, Chunks, write_event},
    state::AppState,
};

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/v1/chat/completions", post(create))
}

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
    Unserved { name: "tools", asks_nothing: is_empty_list },
    Unserved { name: "tool_choice", asks_nothing: |value| value == "none" },
    // Without tools, which are refused, there is nothing to call in parallel.
    Unserved { name: "parallel_tool_calls", asks_nothing: Value::is_boolean },
    Unserved { name: "functions", asks_nothing: is_empty_list },
    Unserved { name: "function_call", asks_nothing: |value| value == "none" },
    Unserved { name: "response_format", asks_nothing: |value| value == &serde_json::json!({"type": "text"}) },
    Unserved { name: "modalities", asks_nothing: |value| value == &serde_json::json!(["text"]) },
    Unserved { name: "audio", asks_nothing: is_never },
    Unserved { name: "prediction", asks_nothing: is_never },
    Unserved { name: "web_search_options", asks_nothing: is_never },
    Unserved { name: "verbosity", asks_nothing: |value| value == "medium" },
    Unserved { name: "moderation", asks_nothing: is_never },
    Unserved { name: "store", asks_nothing: is_false },
    Unserved { name: "prompt_cache_retention", asks_nothing: is_never },
    // vLLM's, for conversations.
    Unserved { name: "best_of", asks_nothing: |value| value == &serde_json::json!(1) },
    Unserved { name: "echo", asks_nothing: is_false },
    Unserved { name: "add_generation_prompt", asks_nothing: is_true },
    Unserved { name: "continue_final_message", asks_nothing: is_false },
    Unserved { name: "add_special_tokens", asks_nothing: is_false },
    Unserved { name: "chat_template", asks_nothing: is_never },
    Unserved { name: "documents", asks_nothing: is_empty_list },
];

impl TryFrom<Fields> for Call {
    type Error = ApiError;

    fn try_from(mut fields: Fields) -> Result<Self, ApiError> {
        let model: String = fields.require("model")?;
        let messages = messages::take(&mut fields)?;
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
    const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "xhigh"];
    let mut kwargs: Map<String, Value> = fields.take("chat_template_kwargs")?.unwrap_or_default();
    if let Some(effort) = fields.take::<String>("reasoning_effort")? {
        if !EFFORTS.contains(&effort.as_str()) {
            let message = format!("`reasoning_effort` must be one of {}, not {effort:?}", EFFORTS.join(", "));
            return Err(ApiError::invalid("reasoning_effort", message));
        }
        // Templates that only know thinking on and off call it so.
        if effort == "none" {
            kwargs.entry("enable_thinking").or_insert(Value::Bool(false));
        }
        kwargs.entry("reasoning_effort").or_insert(effort.into());
    }
    Ok(kwargs)
}

#[derive(Serialize)]
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

#[derive(Serialize)]
struct WholeChoice<'a> {
    index: usize,
    message: Message<'a>,
    logprobs: Option<TokenLogprobs<'a>>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(flatten)]
    thought: Thought<'a>,
    refusal: Option<&'a str>,
}

/// What the model thought, under both names that clients read.
#[derive(Clone, Copy, Default, Serialize)]
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

#[derive(Serialize)]
struct TokenLogprobs<'a> {
    content: Vec<Token<'a>>,
    refusal: Option<&'a str>,
}

#[derive(Serialize)]
struct Token<'a> {
    token: std::borrow::Cow<'a, str>,
    logprob: f32,
    bytes: &'a [u8],
    top_logprobs: Vec<TopToken<'a>>,
}

#[derive(Serialize)]
struct TopToken<'a> {
    token: std::borrow::Cow<'a, str>,
    logprob: f32,
    bytes: &'a [u8],
}

#[derive(Serialize)]
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

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: usize,
    delta: ChunkDelta<'a>,
    logprobs: Option<TokenLogprobs<'a>>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
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
