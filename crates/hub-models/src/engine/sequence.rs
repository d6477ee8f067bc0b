use hub_nn::{state::SequenceState, tokens::TextStream};

use super::{Settings, request::Request};
use crate::{TokenLogprob, sample::Sampler};

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

    /// Returns how many of its tokens are not computed yet.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.state.tokens()
    }

    /// Returns how many tokens it has generated.
    pub(super) fn generated(&self) -> usize {
        self.tokens.len() - self.prompt_tokens
    }
}
