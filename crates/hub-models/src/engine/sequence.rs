use hub_nn::{state::SequenceState, tokens::TextStream};

use super::{Settings, request::Request};
use crate::{Delta, TokenLogprob, chat::Harmony, sample::Sampler};

/// One choice of a request while it runs.
#[derive(Debug)]
pub(super) struct Sequence {
    /// The request it belongs to.
    pub(super) request: u64,
    pub(super) choice: usize,
    /// The prompt, then what was generated.
    pub(super) tokens: Vec<u32>,
    pub(super) prompt_tokens: usize,
    pub(super) state: SequenceState,
    /// How long the sequence was when it was last computed, for rotations that depend on it.
    pub(super) span: usize,
    pub(super) sampler: Sampler,
    pub(super) text: TextStream,
    /// Takes an answer in channels apart.
    pub(super) harmony: Option<Harmony>,
    /// The tokens of the prompt with their probabilities, if they were asked for, as far as they are known.
    pub(super) reported: Vec<TokenLogprob>,
}

impl Sequence {
    /// Begins the first choice of a request.
    pub(super) fn first(id: u64, request: &Request, settings: &Settings) -> Self {
        let text = TextStream::new(&settings.tokenizer, &[]).spelling(&settings.spelled);
        let mut sequence = Self {
            request: id,
            choice: 0,
            tokens: request.tokens.clone(),
            prompt_tokens: request.tokens.len(),
            state: SequenceState::default(),
            span: 0,
            sampler: Sampler::new(&request.sampling, &request.tokens).instructions(settings.instructions),
            text: if request.continues { text.continuing() } else { text },
            harmony: request.harmony.clone(),
            reported: Vec::new(),
        };
        sequence.watch(request);
        sequence
    }

    /// Begins another choice where this one has just read its prompt; `state` is a fork of its own.
    pub(super) fn sibling(
        &self,
        choice: usize,
        state: SequenceState,
        request: &Request,
        settings: &Settings,
    ) -> Self {
        let sampling = request.sampling.reseeded(choice as u64);
        Self {
            choice,
            state,
            span: self.span,
            sampler: Sampler::new(&sampling, &request.tokens).instructions(settings.instructions),
            ..Self::first(self.request, request, settings)
        }
    }

    /// Looks for the stop texts of its request from here on: not before an answer has its least length, and not in
    /// the headers of messages, which nobody reads.
    pub(super) fn watch(&mut self, request: &Request) {
        let is_read = self.harmony.as_ref().is_none_or(Harmony::is_in_message);
        let holds = is_read && self.generated() >= request.min_tokens;
        self.text.watch(if holds { &request.stop } else { &[] });
    }

    /// Reads the token that was drawn, and puts the text that it completed where it belongs; true if a stop text ends
    /// the answer.
    pub(super) fn read(&mut self, token: u32, request: &Request, delta: &mut Delta) -> bool {
        if self.generated() == request.min_tokens {
            self.watch(request);
        }
        let Some(harmony) = &mut self.harmony else {
            let piece = self.text.push(token);
            delta.text.push_str(&piece.text);
            return piece.is_stopped;
        };
        if harmony.divides(token) {
            // What waited for more belongs to what is over.
            let held = self.text.finish();
            delta.add(harmony.push(&held));
            delta.add(harmony.divide(token));
            self.watch(request);
            return false;
        }
        let was_in_message = harmony.is_in_message();
        let piece = self.text.push(token);
        delta.add(harmony.push(&piece.text));
        if harmony.is_in_message() != was_in_message {
            self.watch(request);
        }
        piece.is_stopped
    }

    /// Ends the answer, with the model's token for it if there was one: puts what waited for more where it belongs.
    pub(super) fn close(&mut self, end: Option<u32>, delta: &mut Delta) {
        let held = self.text.finish();
        let Some(harmony) = &mut self.harmony else {
            return delta.text.push_str(&held);
        };
        delta.add(harmony.push(&held));
        delta.add(end.map(|token| harmony.divide(token)).unwrap_or_default());
    }

    /// Returns how many of its tokens are not computed yet.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.state.tokens()
    }

    /// Returns how many tokens it has generated.
    pub(super) fn generated(&self) -> usize {
        self.tokens.len() - self.prompt_tokens
    }
}

#[cfg(test)]
mod tests;
