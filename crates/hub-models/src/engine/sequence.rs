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
        // Before an answer has its least length no stop text ends it.
        let text =
            TextStream::new(&settings.tokenizer, if request.min_tokens == 0 { &request.stop } else { &[] });
        Self {
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
        }
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

    /// Puts text that a token completed where it belongs; `None` for what was held when the text ended.
    pub(super) fn put(&mut self, token: Option<u32>, text: String, delta: &mut Delta) {
        let Some(harmony) = &mut self.harmony else {
            return delta.text.push_str(&text);
        };
        let split = match token {
            Some(token) => harmony.push(token, &text),
            None => harmony.finish(&text),
        };
        delta.text.push_str(&split.answer);
        delta.reasoning.push_str(&split.thought);
        delta.call.push_str(&split.call);
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
