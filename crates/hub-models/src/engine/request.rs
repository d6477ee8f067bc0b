use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use async_channel::Sender;
use hub_nn::Priority;

use crate::{Delta, Error, chat::Harmony, options::EndTokens, reply::Usage, sample::Sampling};

/// What a caller wants, checked and in tokens: plain data.
#[derive(Debug)]
pub(crate) struct Request {
    /// The prompt; at least one token, and shorter than the context.
    pub(crate) tokens: Vec<u32>,
    /// Whether the answer goes on with a text, and does not begin one.
    pub(crate) continues: bool,
    /// Takes answers in channels apart.
    pub(crate) harmony: Option<Harmony>,
    pub(crate) sampling: Sampling,
    pub(crate) max_tokens: usize,
    pub(crate) min_tokens: usize,
    pub(crate) stop: Vec<String>,
    pub(crate) end: EndTokens,
    pub(crate) logprobs: Option<u8>,
    pub(crate) prompt_logprobs: Option<u8>,
    pub(crate) choices: NonZeroU32,
    pub(crate) priority: Priority,
    pub(crate) submitted: Instant,
    pub(crate) tx: Sender<Result<Delta, Error>>,
}

/// A request while its choices run: where its text goes, and what it has cost.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) request: Request,
    /// Choices that have not ended.
    pub(super) open: usize,
    pub(super) completion_tokens: usize,
    pub(super) started: Option<Instant>,
    pub(super) first_token: Option<Instant>,
    /// Since when its reader has had no room.
    pub(super) stalled: Option<Instant>,
}

impl Request {
    /// Returns how many pieces of text its channel must hold: some slack, and one for each choice of a step.
    pub(crate) fn channel_capacity(choices: NonZeroU32) -> usize {
        32 + 2 * choices.get() as usize
    }
}

impl Running {
    pub(super) fn new(request: Request) -> Self {
        let open = request.choices.get() as usize;
        Self { request, open, completion_tokens: 0, started: None, first_token: None, stalled: None }
    }

    /// Tells whether the reader is gone.
    pub(super) fn is_abandoned(&self) -> bool {
        self.request.tx.is_closed()
    }

    /// Tells whether the channel holds one more piece from each open choice.
    pub(super) fn is_readable(&self) -> bool {
        let capacity = self.request.tx.capacity().unwrap_or(usize::MAX);
        capacity - self.request.tx.len() > self.open
    }

    /// Sends a piece. The plan has made sure that there is room; a reader that left is noticed before the next step.
    pub(super) fn send(&self, delta: Delta) {
        let _ = self.request.tx.try_send(Ok(delta));
    }

    /// Sends the error that ends the reply.
    pub(super) fn fail(&self, error: Error) {
        let _ = self.request.tx.try_send(Err(error));
        self.request.tx.close();
    }

    /// Notes that a token was generated.
    pub(super) fn count_token(&mut self, now: Instant) {
        self.completion_tokens += 1;
        self.first_token.get_or_insert(now);
    }

    /// Notes that a choice ended, and returns what the reply cost if it was the last.
    pub(super) fn close_choice(&mut self, now: Instant) -> Option<Usage> {
        self.open -= 1;
        (self.open == 0).then(|| {
            let started = self.started.unwrap_or(now);
            let first_token = self.first_token.unwrap_or(now);
            Usage {
                prompt_tokens: self.request.tokens.len(),
                completion_tokens: self.completion_tokens,
                queue: since(self.request.submitted, started),
                prefill: since(started, first_token),
                decode: since(first_token, now),
            }
        })
    }
}

fn since(start: Instant, end: Instant) -> Duration {
    end.saturating_duration_since(start)
}
