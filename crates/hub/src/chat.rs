//! One chat or completion: choose a model, load it, submit, stream.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use hub_base::{ErrorKind, ModelId, ProgressSink, Task};
use hub_models::{Delta, GenerateOptions, Prompt, Reply, TextModel, chat::Message};
use hub_router::{Candidate, Request};
use tracing::instrument;

use crate::{
    Caller, Error, Hub, Installed, Result,
    catalog::Planned,
    config::KeepAlive,
    meter::Meter,
    open::blocking,
    registry::{Cut, Lease},
};

/// A conversation or a text to go on with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChatRequest {
    /// A model, an alias, or `auto`.
    pub model: String,
    /// What to go on with.
    pub prompt: Prompt,
    /// How the answer is generated.
    pub options: GenerateOptions,
    /// How long the model stays after the answer; as the settings say if `None`.
    pub keep_alive: Option<KeepAlive>,
    /// Who asks.
    pub caller: Caller,
}

impl ChatRequest {
    /// Asks `model` to go on with `prompt`.
    pub fn new(model: impl Into<String>, prompt: impl Into<Prompt>) -> Self {
        Self {
            model: model.into(),
            prompt: prompt.into(),
            options: GenerateOptions::default(),
            keep_alive: None,
            caller: Caller::default(),
        }
    }

    /// Asks `model` to answer one message of a user.
    pub fn user(model: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(model, vec![Message::user(text)])
    }

    /// Generates the answer as `options` say.
    #[must_use]
    pub fn options(mut self, options: GenerateOptions) -> Self {
        self.options = options;
        self
    }

    /// Keeps the model for so long after the answer.
    #[must_use]
    pub fn keep_alive(mut self, keep_alive: Option<KeepAlive>) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// Says who asks.
    #[must_use]
    pub fn caller(mut self, caller: Caller) -> Self {
        self.caller = caller;
        self
    }
}

/// An answer while it is being generated: a stream of [`Delta`].
///
/// Dropping it stops the generation within one step. Its usage row is written when it ends or is dropped.
#[derive(Debug)]
pub struct ChatReply {
    /// What arrived while the candidate was on trial.
    first: Option<Delta>,
    reply: Reply,
    model: ModelId,
    route: String,
    request_id: String,
    meter: Meter,
    /// Ready when the hub stops.
    cut: Cut,
    is_cut: bool,
    // Last, so that the model counts as in use until its sequence is gone.
    lease: Arc<Lease>,
}

impl ChatReply {
    /// Returns the id of the request.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Returns the model that answers.
    pub fn model(&self) -> &ModelId {
        &self.model
    }

    /// Returns why that model answers, in a few words.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// Returns the number of tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.reply.prompt_tokens()
    }

    /// Waits for the next piece; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Delta>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Waits for the whole answer and returns the text of its first choice.
    ///
    /// # Errors
    /// Whatever ended the generation early.
    pub async fn text(mut self) -> Result<String> {
        let mut text = String::new();
        while let Some(delta) = self.next().await {
            let delta = delta?;
            if delta.choice == 0 {
                text.push_str(&delta.text);
            }
        }
        Ok(text)
    }
}

impl Stream for ChatReply {
    type Item = Result<Delta>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.is_cut {
            return Poll::Ready(None);
        }
        this.is_cut = this.cut.poll(cx).is_ready();
        let item = match this.first.take() {
            _ if this.is_cut => Some(Err(Error::ShuttingDown)),
            Some(delta) => Some(Ok(delta)),
            None => ready!(Pin::new(&mut this.reply).poll_next(cx)).map(|item| item.map_err(Error::from)),
        };
        match &item {
            Some(Ok(delta)) => {
                this.meter.delta(delta);
                delta.usage.iter().for_each(|usage| this.lease.answered(usage));
            }
            Some(Err(error)) => this.meter.fail(error.kind()),
            None => {}
        }
        Poll::Ready(item)
    }
}

/// Tokens that idle models make room for beyond those that are asked for.
const ROOM_TOKENS: usize = 256;

/// A request that a model has taken.
struct Placed {
    first: Option<Delta>,
    reply: Reply,
    lease: Arc<Lease>,
}

impl Hub {
    /// Starts an answer: chooses a model, loads it if need be, prepares the prompt and submits it.
    ///
    /// Where the router names several candidates, the next one is tried when one fails before its first token, and
    /// this waits for that token; with a single candidate it returns as soon as the request has its place. Dropping
    /// the future withdraws the request; a load that it began goes on.
    ///
    /// # Errors
    /// [`Error::Router`] if no model can answer; otherwise what the first candidate failed of.
    #[instrument(name = "hub.chat", skip_all, fields(model = %request.model))]
    pub async fn chat(&self, request: ChatRequest) -> Result<ChatReply> {
        let (reply, _) = self.begin(request).await?;
        Ok(reply)
    }

    /// Starts an answer to the prompt of `request` and one to each of `others`, all by the same model and on one usage
    /// row.
    ///
    /// # Errors
    /// As [`Hub::chat`], for the first prompt that is refused; the other answers are withdrawn.
    pub async fn chat_each(&self, request: ChatRequest, others: Vec<Prompt>) -> Result<Vec<ChatReply>> {
        let (options, keep_alive) = (request.options.clone(), request.keep_alive);
        let (first, installed) = self.begin(request).await?;
        let (model, route) = (first.model.clone(), first.route.clone());
        let mut replies = Vec::with_capacity(1 + others.len());
        for prompt in others {
            let mut meter = first.meter.part();
            // Without a rival: none waits for a token while nobody reads those that are ahead of it.
            let placed = self.attempt(&installed, &Arc::new(prompt), &options, keep_alive, true).await;
            let placed = placed.inspect_err(|error| meter.fail(error.kind()))?;
            meter.prompt_tokens(placed.reply.prompt_tokens());
            replies.push(self.reply(placed, model.clone(), route.clone(), meter));
        }
        replies.insert(0, first);
        Ok(replies)
    }

    async fn begin(&self, request: ChatRequest) -> Result<(ChatReply, Installed)> {
        let ChatRequest { model, prompt, options, keep_alive, caller } = request;
        let mut meter = Meter::new(self.store(), caller, Task::Chat, &model);
        let placed = self.place(&model, prompt, &options, keep_alive, &mut meter).await;
        let (planned, placed) = placed.inspect_err(|error| meter.fail(error.kind()))?;
        let Candidate { model, reason, .. } = planned.candidate;
        Ok((self.reply(placed, model, reason, meter), planned.installed))
    }

    fn reply(&self, placed: Placed, model: ModelId, route: String, meter: Meter) -> ChatReply {
        ChatReply {
            first: placed.first,
            reply: placed.reply,
            model,
            route,
            request_id: meter.request_id().to_owned(),
            meter,
            cut: self.registry().cut(),
            is_cut: false,
            lease: placed.lease,
        }
    }

    /// Tries the candidates in order until one takes the request.
    async fn place(
        &self,
        model: &str,
        prompt: Prompt,
        options: &GenerateOptions,
        keep_alive: Option<KeepAlive>,
        meter: &mut Meter,
    ) -> Result<(Planned, Placed)> {
        let max_tokens = options.max_tokens.map(|tokens| tokens as u64);
        let request = Request { model, task: Task::Chat, prompt_tokens: estimate(&prompt), max_tokens };
        let plan = self.plan(&request).await?;
        let prompt = Arc::new(prompt);
        let mut first_error = None;
        let mut candidates = plan.into_iter().peekable();
        while let Some(mut planned) = candidates.next() {
            let is_last = candidates.peek().is_none();
            meter.model(&planned.candidate.model);
            let error = match self.attempt(&planned.installed, &prompt, options, keep_alive, is_last).await {
                Ok(placed) => {
                    meter.prompt_tokens(placed.reply.prompt_tokens());
                    if first_error.is_some() {
                        planned.candidate.reason.push_str(", fallback");
                    }
                    return Ok((planned, placed));
                }
                Err(error) => error,
            };
            let goes_on = is_worth_another(error.kind()) && !is_last;
            if goes_on {
                tracing::warn!(model = %planned.candidate.model, error = &error as &dyn std::error::Error, "trying the next model");
            }
            first_error.get_or_insert(error);
            if !goes_on {
                break;
            }
        }
        Err(first_error.unwrap_or(Error::Stopped))
    }

    /// Hands the request to one model, and waits for its first token unless nobody else could take over.
    async fn attempt(
        &self,
        installed: &Installed,
        prompt: &Arc<Prompt>,
        options: &GenerateOptions,
        keep_alive: Option<KeepAlive>,
        is_last: bool,
    ) -> Result<Placed> {
        // What cannot be answered need not be loaded for.
        if matches!(**prompt, Prompt::Chat(_)) && installed.purpose() == "completion" {
            return Err(hub_models::Error::NoTemplate.into());
        }
        let lease = Arc::new(self.registry().get(installed, keep_alive, ProgressSink::default()).await?);
        let model = lease.text()?.clone();
        let prepared = {
            let (model, prompt, registry) = (model.clone(), Arc::clone(prompt), self.registry().clone());
            let answer_tokens = options.max_tokens.unwrap_or(ROOM_TOKENS);
            // So that the model counts as in use although the caller may have left.
            let used = Arc::clone(&lease);
            let prepare = move || {
                let prepared = model.prepare(&prompt)?;
                let tokens = prepared.tokens().len().saturating_add(answer_tokens);
                registry.make_room(state_bytes(&model, tokens), used.name());
                Ok::<_, Error>(prepared)
            };
            blocking(prepare).await??
        };
        let submitted = model.submit(prepared, options.clone());
        let mut reply = submitted.inspect_err(|error| self.registry().reconsider(&lease, error))?;
        let mut first = None;
        if !is_last {
            first = poll_fn(|cx| Pin::new(&mut reply).poll_next(cx)).await.transpose()?;
        }
        Ok(Placed { first, reply, lease })
    }
}

/// Says what a sequence keeps between steps when it has grown a little. Memory that idle models hold is made free for
/// it; the model itself admits no sequence that does not fit.
fn state_bytes(model: &TextModel, tokens: usize) -> u64 {
    model.info().state_bytes(tokens.saturating_add(ROOM_TOKENS).min(model.context_tokens()))
}

/// Estimates a prompt's tokens from above: the model counts exactly, later.
fn estimate(prompt: &Prompt) -> u64 {
    let bytes = match prompt {
        Prompt::Chat(chat) => chat.messages.iter().map(|message| message.content.len()).sum(),
        Prompt::Text(text) | Prompt::Question(text) => text.len(),
        Prompt::Tokens(tokens) => return tokens.len() as u64,
        // A kind this crate does not know yet: the model refuses what does not fit.
        _ => 0,
    };
    bytes.div_ceil(2) as u64
}

/// Tells whether another model may succeed where one failed so.
fn is_worth_another(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::TooLarge
        | ErrorKind::Busy
        | ErrorKind::Unsupported
        | ErrorKind::Unavailable
        | ErrorKind::Corrupt
        | ErrorKind::NotFound
        | ErrorKind::Internal => true,
        ErrorKind::InvalidInput | ErrorKind::Cancelled | ErrorKind::Denied => false,
    }
}
