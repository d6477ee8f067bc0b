//! `POST /v1/completions`

use axum::{extract::State, http::HeaderMap, http::StatusCode, response::Response, routing::on};
use hub::{
    ChatRequest, Hub,
    models::{Delta, Prompt, TokenLogprob},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    echo::{Echo, Logprobs, Offset},
    sampling::{self, Form, StreamUsage},
    wire::{Head, Timings, Usage, finish_word},
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

/// How long an answer is where the request does not say, as in OpenAI's API.
const DEFAULT_MAX_TOKENS: usize = 16;

/// The most prompts of a request.
const MAX_PROMPTS: usize = 128;

pub(super) static CREATE: Operation = Operation {
    verb: Verb::Post,
    path: "/v1/completions",
    group: Group::OpenAi,
    summary: "Goes on with a text",
    route: |method| on(method, create),
    body: Some(Body { read: |fields| Call::try_from(fields).map(drop), examples: EXAMPLES }),
    fails: Fails::Model,
    // Both forms are the same object.
    answers: |answers| {
        answers.json::<Completion<'static>>().stream::<Completion<'static>>("text/event-stream");
    },
};

static EXAMPLES: &[Example] = &[
    Example {
        name: "A text",
        body: || json!({"model": "hub-guide", "prompt": "To import a model,", "max_tokens": 16}),
    },
    Example {
        name: "A stream",
        body: || {
            json!({
                "model": "hub-guide",
                "prompt": ["To list", "To pull"],
                "max_tokens": 8,
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
    let Call { request, others, form, echo, timings } = Call::try_from(fields)?;
    let choices = request.options.choices.get() as usize;
    let shape = Shape { prompts: 1 + others.len(), choices, echo, timings };
    let has_logprobs = request.options.logprobs.is_some();
    let opening = Answer::open(hub, metrics, request.caller(asker), others, choices);
    let opening = async { opening.await.map_err(|error| error.about("prompt")) };
    let head = Head::new("cmpl-");
    match form {
        Form::Whole => whole(opening.await?, &head, &shape, has_logprobs).await,
        Form::Stream(usage) => {
            let offsets = vec![Offset::default(); shape.total()];
            let chunks = CompletionChunks { head, model: String::new(), usage, shape, has_logprobs, offsets };
            sse::respond(Box::pin(opening), chunks).await
        }
    }
}

/// A request in the hub's own terms.
struct Call {
    request: ChatRequest,
    /// The prompts after the first.
    others: Vec<Prompt>,
    form: Form,
    echo: Echo,
    timings: bool,
}

/// How the choices of an answer belong to its prompts.
struct Shape {
    prompts: usize,
    /// Choices of each prompt.
    choices: usize,
    echo: Echo,
    /// Whether it says what it took.
    timings: bool,
}

impl Shape {
    fn total(&self) -> usize {
        self.prompts * self.choices
    }
}

/// A prompt as it may be written.
#[derive(Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a string, an array of strings, an array of token ids, or an array of arrays of those"
)]
enum WirePrompt {
    Text(String),
    Texts(#[schemars(length(min = 1, max = MAX_PROMPTS))] Vec<String>),
    Tokens(#[schemars(length(min = 1))] Vec<u32>),
    TokenLists(#[schemars(length(min = 1, max = MAX_PROMPTS), inner(length(min = 1)))] Vec<Vec<u32>>),
}

/// Fields of OpenAI's and vLLM's that are not served, with the values that ask for nothing.
static UNSERVED: &[Unserved] = &[
    Unserved { name: "suffix", idle: Idle::Words(&[""]) },
    Unserved { name: "add_special_tokens", idle: Idle::True },
    Unserved { name: "response_format", idle: Idle::Exactly(|| serde_json::json!({"type": "text"})) },
];

impl TryFrom<Fields> for Call {
    type Error = ApiError;

    fn try_from(mut fields: Fields) -> Result<Self, ApiError> {
        let model: String = fields.require("model")?;
        let mut prompts: Vec<Prompt> = match fields.require("prompt")? {
            WirePrompt::Text(text) => vec![Prompt::Text(text)],
            WirePrompt::Texts(texts) => texts.into_iter().map(Prompt::Text).collect(),
            WirePrompt::Tokens(tokens) => vec![Prompt::Tokens(tokens)],
            WirePrompt::TokenLists(lists) => lists.into_iter().map(Prompt::Tokens).collect(),
        };
        if !(1..=MAX_PROMPTS).contains(&prompts.len()) {
            let message =
                format!("`prompt` must hold from 1 to {MAX_PROMPTS} prompts, not {}", prompts.len());
            return Err(ApiError::invalid("prompt", message));
        }
        let mut options = sampling::take_options(&mut fields, 0)?;
        options.max_tokens.get_or_insert(DEFAULT_MAX_TOKENS);
        options.logprobs = fields.number("logprobs", 0..=20)?;
        let choices = options.choices.get();
        if fields.take::<u32>("best_of")?.is_some_and(|drawn| drawn != choices) {
            let message = "`best_of` other than `n` is not served yet; leave it out";
            return Err(ApiError::invalid("best_of", message).code("unsupported_parameter"));
        }
        let echo = match fields.take::<bool>("echo")? {
            Some(true) => Echo::of(&prompts, options.logprobs),
            Some(false) | None => Echo::Nothing,
        };
        options.prompt_logprobs = echo.prompt_logprobs();
        let form = sampling::take_form(&mut fields)?;
        let timings = sampling::take_timings(&mut fields)?;
        fields.finish(&[UNSERVED, sampling::UNSERVED])?;
        let others = prompts.split_off(1);
        let request = ChatRequest::new(model, prompts.swap_remove(0)).options(options);
        Ok(Self { request, others, form, echo, timings })
    }
}

#[derive(JsonSchema, Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [WireChoice<'a>],
    /// Left out, `null`, or the usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<Timings>,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "CompletionChoice")]
struct WireChoice<'a> {
    text: &'a str,
    index: usize,
    logprobs: Option<Logprobs>,
    finish_reason: Option<&'static str>,
}

/// Answers with one object when everything is generated.
async fn whole(answer: Answer, head: &Head, shape: &Shape, has_logprobs: bool) -> Result<Response, ApiError> {
    let mut headers = HeaderMap::new();
    answer.write_headers(&mut headers);
    let model = answer.model().to_owned();
    let (mut collected, usage) = answer.collect(shape.total()).await?;
    // The tokens of a prompt arrive with its first choice and belong to all.
    let prompts: Vec<Vec<TokenLogprob>> = collected
        .iter_mut()
        .step_by(shape.choices)
        .map(|choice| std::mem::take(&mut choice.prompt))
        .collect();
    for (index, choice) in collected.iter_mut().enumerate() {
        let at = index / shape.choices;
        let prompt = prompts.get(at).map(Vec::as_slice).unwrap_or_default();
        choice.text.insert_str(0, &shape.echo.text(at, prompt));
    }
    let logprobs = |index: usize, choice: &Choice| {
        let at = index / shape.choices;
        let prompt = prompts.get(at).map(Vec::as_slice).unwrap_or_default();
        let mut logprobs = Logprobs::default();
        let mut offset = Offset::default();
        shape.echo.write(at, prompt, &mut offset, &mut logprobs);
        logprobs.extend(&choice.logprobs, &mut offset);
        logprobs
    };
    let choices = collected.iter().enumerate().map(|(index, choice)| WireChoice {
        text: &choice.text,
        index,
        logprobs: has_logprobs.then(|| logprobs(index, choice)),
        finish_reason: choice.finish.map(finish_word),
    });
    let choices: Vec<_> = choices.collect();
    let completion = Completion {
        id: &head.id,
        object: "text_completion",
        created: head.created,
        model: &model,
        choices: &choices,
        usage: Some(Some(usage.into())),
        timings: shape.timings.then(|| usage.into()),
    };
    let mut response = json::response(StatusCode::OK, json::to_vec(&completion));
    response.headers_mut().extend(headers);
    Ok(response)
}

/// Writes the events of a completion.
struct CompletionChunks {
    head: Head,
    model: String,
    usage: StreamUsage,
    shape: Shape,
    has_logprobs: bool,
    /// How much text each choice has sent.
    offsets: Vec<Offset>,
}

impl CompletionChunks {
    fn write(&self, choices: &[WireChoice<'_>], out: &mut Vec<u8>) {
        self.write_with(choices, None, None, out);
    }

    fn write_with(
        &self,
        choices: &[WireChoice<'_>],
        usage: Option<Usage>,
        timings: Option<Timings>,
        out: &mut Vec<u8>,
    ) {
        let chunk = Completion {
            id: &self.head.id,
            object: "text_completion",
            created: self.head.created,
            model: &self.model,
            choices,
            usage: (self.usage == StreamUsage::Told).then_some(usage),
            timings,
        };
        write_event(out, &chunk);
    }

    /// Writes the prompt as the first text of each of its choices.
    fn echo(&mut self, prompt: usize, tokens: &[TokenLogprob], out: &mut Vec<u8>) {
        let text = self.shape.echo.text(prompt, tokens);
        let first = prompt * self.shape.choices;
        for index in first..first + self.shape.choices {
            let mut logprobs = Logprobs::default();
            if let Some(offset) = self.offsets.get_mut(index) {
                self.shape.echo.write(prompt, tokens, offset, &mut logprobs);
            }
            let logprobs = self.has_logprobs.then_some(logprobs);
            self.write(&[WireChoice { text: &text, index, logprobs, finish_reason: None }], out);
        }
    }
}

impl Chunks for CompletionChunks {
    fn begin(&mut self, model: &str, out: &mut Vec<u8>) {
        model.clone_into(&mut self.model);
        if matches!(self.shape.echo, Echo::Texts(_)) {
            for prompt in 0..self.shape.prompts {
                self.echo(prompt, &[], out);
            }
        }
    }

    fn piece(&mut self, piece: Delta, out: &mut Vec<u8>) {
        let index = piece.choice;
        if !piece.prompt_logprobs.is_empty() {
            self.echo(index / self.shape.choices, &piece.prompt_logprobs, out);
        }
        if !piece.text.is_empty() || !piece.logprobs.is_empty() {
            let mut logprobs = Logprobs::default();
            if let Some(offset) = self.offsets.get_mut(index) {
                logprobs.extend(&piece.logprobs, offset);
            }
            let logprobs = self.has_logprobs.then_some(logprobs);
            self.write(&[WireChoice { text: &piece.text, index, logprobs, finish_reason: None }], out);
        }
        if let Some(finish) = piece.finish {
            let finish_reason = Some(finish_word(finish));
            let timings = piece.usage.filter(|_| self.shape.timings).map(Timings::from);
            self.write_with(
                &[WireChoice { text: "", index, logprobs: None, finish_reason }],
                None,
                timings,
                out,
            );
        }
        if let Some(usage) = piece.usage
            && self.usage == StreamUsage::Told
        {
            self.write_with(&[], Some(usage.into()), None, out);
        }
    }
}
