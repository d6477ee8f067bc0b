use std::{
    collections::HashMap,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use async_channel::Receiver;
use futures_core::Stream;

use crate::{
    Error,
    chat::{Split, Thinking},
    engine::Engine,
};

/// An answer while it is being generated: a stream of [`Delta`], with a blocking twin.
///
/// Dropping it stops the generation within one step and frees what the sequence holds.
#[derive(Debug)]
pub struct Reply {
    rx: Pin<Box<Receiver<Result<Delta, Error>>>>,
    prompt_tokens: usize,
    /// Whether the last piece, or an error, was read.
    is_over: bool,
    /// Tells thinking from answers, one for each choice once it has begun.
    thinking: Option<Thinking>,
    choices: HashMap<usize, Thinking>,
    /// Keeps the model's thread alive until the last piece is read.
    _engine: Engine,
}

/// A piece of an answer.
///
/// The texts of one choice, put together in order, are its answer; each is valid UTF-8 on its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// Which answer it belongs to, from 0.
    pub choice: usize,
    /// The text, which can be empty.
    pub text: String,
    /// What the model thought, where its template sets thinking apart; it is no part of the text.
    pub reasoning: String,
    /// What the model wrote to a tool, where its answers have channels; it is no part of the text.
    pub call: String,
    /// The tokens of the text with their probabilities, if they were asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// The tokens of the prompt with their probabilities, if they were asked for: once, before any text. The first
    /// token has nothing before it and no probability (`NaN`).
    pub prompt_logprobs: Vec<TokenLogprob>,
    /// Set on the last piece of a choice.
    pub finish: Option<FinishReason>,
    /// Set on the last piece of the whole reply.
    pub usage: Option<Usage>,
}

/// How likely a token was.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// Its bytes, which need not be whole characters.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability, before temperature and cuts.
    pub logprob: f32,
    /// The likeliest tokens at its place, likeliest first.
    pub top: Vec<TokenLogprob>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it, or a stop text was met.
    Stop,
    /// It reached its limit of tokens, or the end of the context.
    Length,
}

/// What a reply cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens generated, over all choices.
    pub completion_tokens: usize,
    /// From submission to the first step.
    pub queue: Duration,
    /// From there to the first token.
    pub prefill: Duration,
    /// From there to the last.
    pub decode: Duration,
}

impl Delta {
    /// Adds a text that was taken apart.
    pub(crate) fn add(&mut self, split: Split) {
        self.text.push_str(&split.answer);
        self.reasoning.push_str(&split.thought);
        self.call.push_str(&split.call);
    }
}

impl Reply {
    pub(crate) fn new(rx: Receiver<Result<Delta, Error>>, prompt_tokens: usize, engine: Engine) -> Self {
        let choices = HashMap::new();
        Self { rx: Box::pin(rx), prompt_tokens, is_over: false, thinking: None, choices, _engine: engine }
    }

    /// Tells thinking from answers.
    pub(crate) fn thinking(mut self, thinking: Option<Thinking>) -> Self {
        self.thinking = thinking;
        self
    }

    /// Takes the text of a piece apart.
    fn split(&mut self, delta: &mut Delta) {
        let Some(thinking) = &self.thinking else { return };
        let choice = self.choices.entry(delta.choice).or_insert_with(|| thinking.clone());
        let split = choice.push(&delta.text);
        (delta.reasoning, delta.text) = (split.thought, split.answer);
        if delta.finish.is_some() {
            let rest = choice.finish();
            delta.reasoning.push_str(&rest.thought);
            delta.text.push_str(&rest.answer);
        }
    }

    /// Returns the number of tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    /// Iterates over the pieces, waiting for each.
    ///
    /// An answer that was cut off ends with [`Error::Interrupted`], never as if it were whole.
    pub fn blocking(mut self) -> impl Iterator<Item = Result<Delta, Error>> {
        std::iter::from_fn(move || {
            let next = self.rx.recv_blocking().ok();
            self.check(next)
        })
    }

    /// Tells an end from an interruption: the last piece of a whole answer carries its usage.
    fn check(&mut self, next: Option<Result<Delta, Error>>) -> Option<Result<Delta, Error>> {
        let next = match next {
            None if self.is_over => return None,
            None => Err(Error::Interrupted),
            Some(next) => next.map(|mut delta| {
                self.split(&mut delta);
                delta
            }),
        };
        self.is_over |= next.as_ref().map_or(true, |delta| delta.usage.is_some());
        Some(next)
    }

    /// Waits for the whole answer and returns the text of its first choice.
    ///
    /// # Errors
    /// Whatever ended the generation early.
    pub fn text(self) -> Result<String, Error> {
        let mut text = String::new();
        for delta in self.blocking() {
            let delta = delta?;
            if delta.choice == 0 {
                text.push_str(&delta.text);
            }
        }
        Ok(text)
    }
}

impl Stream for Reply {
    type Item = Result<Delta, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(self.rx.as_mut().poll_next(cx));
        Poll::Ready(self.check(next))
    }
}
