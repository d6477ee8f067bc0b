use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use futures_core::Stream;
use futures_util::{StreamExt, stream::SelectAll};
use hub::{
    ChatReply, ChatRequest, Hub,
    models::{Delta, FinishReason, Prompt, TokenLogprob, Usage},
};

use crate::{error::ApiError, metrics::Metrics};

const X_HUB_MODEL: HeaderName = HeaderName::from_static("x-hub-model");
const X_HUB_ROUTE: HeaderName = HeaderName::from_static("x-hub-route");

/// The replies to all prompts of a request as one stream, whose choices are numbered through.
///
/// Ends after the piece that carries the usage of all, or after an error. Dropping it stops every generation.
pub(crate) struct Answer {
    model: String,
    route: String,
    replies: SelectAll<Numbered>,
    open: usize,
    usage: Usage,
    metrics: Metrics,
}

/// A reply whose first choice has this number.
struct Numbered {
    reply: ChatReply,
    first_choice: usize,
}

impl Answer {
    /// Asks the hub to go on with the prompt of `request` and with each of `others`, in `choices` ways each.
    ///
    /// # Errors
    /// As [`Hub::chat_each`].
    pub(crate) async fn open(
        hub: Hub,
        metrics: Metrics,
        request: ChatRequest,
        others: Vec<Prompt>,
        choices: usize,
    ) -> Result<Self, ApiError> {
        let asked = request.model.clone();
        let replies = hub.chat_each(request, others).await?;
        let first = replies.first();
        let model = first.map_or(asked, |reply| reply.model().to_string());
        let route = first.map(|reply| reply.route().to_owned()).unwrap_or_default();
        let open = replies.len();
        let number = |(at, reply)| Numbered { reply, first_choice: at * choices };
        let replies = replies.into_iter().enumerate().map(number).collect();
        Ok(Self { model, route, replies, open, usage: Usage::default(), metrics })
    }

    /// Returns the model that answers.
    pub(crate) fn model(&self) -> &str {
        &self.model
    }

    /// Says in headers which model answers, and why.
    pub(crate) fn write_headers(&self, headers: &mut HeaderMap) {
        write_route(headers, &self.model, &self.route);
    }

    /// Waits for the whole answer.
    ///
    /// # Errors
    /// Whatever ended a generation early.
    pub(crate) async fn collect(mut self, choices: usize) -> Result<(Vec<Choice>, Usage), ApiError> {
        let mut collected: Vec<Choice> = (0..choices).map(|_| Choice::default()).collect();
        let mut usage = Usage::default();
        while let Some(delta) = self.next().await.transpose()? {
            if let Some(choice) = collected.get_mut(delta.choice) {
                choice.text.push_str(&delta.text);
                choice.reasoning.push_str(&delta.reasoning);
                choice.logprobs.extend(delta.logprobs);
                choice.prompt.extend(delta.prompt_logprobs);
                choice.finish = delta.finish.or(choice.finish);
            }
            if let Some(total) = delta.usage {
                usage = total;
            }
        }
        Ok((collected, usage))
    }
}

/// A whole answer.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    /// Its text.
    pub(crate) text: String,
    /// What was thought before it.
    pub(crate) reasoning: String,
    /// Its tokens, if their probabilities were asked for.
    pub(crate) logprobs: Vec<TokenLogprob>,
    /// The tokens of its prompt, if they were asked for and it is the first choice of that prompt.
    pub(crate) prompt: Vec<TokenLogprob>,
    /// Why it ended.
    pub(crate) finish: Option<FinishReason>,
}

/// Says in headers which model answers, and why.
pub(crate) fn write_route(headers: &mut HeaderMap, model: &str, route: &str) {
    for (name, text) in [(X_HUB_MODEL, model), (X_HUB_ROUTE, route)] {
        // Names are ASCII by their rules, and so are the router's words.
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    }
}

impl Stream for Answer {
    type Item = Result<Delta, ApiError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.open == 0 {
            return Poll::Ready(None);
        }
        let delta = match ready!(this.replies.poll_next_unpin(cx)) {
            Some(Ok(delta)) => delta,
            Some(Err(error)) => return Poll::Ready(Some(Err(this.end_with(error.into())))),
            // Every reply ends with its usage or an error, and both are counted.
            None => return Poll::Ready(None),
        };
        Poll::Ready(Some(Ok(this.settle(delta))))
    }
}

impl Answer {
    /// Stops every generation.
    fn end_with(&mut self, error: ApiError) -> ApiError {
        self.open = 0;
        self.replies.clear();
        error
    }

    /// Keeps the usage of a reply that ended until all have.
    fn settle(&mut self, mut delta: Delta) -> Delta {
        let Some(usage) = delta.usage.take() else { return delta };
        self.metrics.generated(&usage);
        self.open -= 1;
        self.usage.prompt_tokens += usage.prompt_tokens;
        self.usage.completion_tokens += usage.completion_tokens;
        // Replies run beside each other: all took as long as the slowest.
        self.usage.queue = self.usage.queue.max(usage.queue);
        self.usage.prefill = self.usage.prefill.max(usage.prefill);
        self.usage.decode = self.usage.decode.max(usage.decode);
        delta.usage = (self.open == 0).then_some(self.usage);
        delta
    }
}

impl Stream for Numbered {
    type Item = hub::Result<Delta>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut delta = ready!(self.reply.poll_next_unpin(cx));
        if let Some(Ok(delta)) = &mut delta {
            delta.choice += self.first_choice;
        }
        Poll::Ready(delta)
    }
}
