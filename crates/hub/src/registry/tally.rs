use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hub_models::Usage;

/// What a model has done since it was loaded.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Sum>);

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    requests: u64,
    prompt: Part,
    answer: Part,
}

/// Tokens, and the time they took.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    tokens: usize,
    time: Duration,
}

/// What a tally comes to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) requests: u64,
    pub(super) prefill_tokens_per_s: Option<f64>,
    pub(super) decode_tokens_per_s: Option<f64>,
}

impl Tally {
    /// Adds a request that was answered.
    pub(super) fn add(&self, usage: &Usage) {
        let mut sum = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sum.requests += 1;
        sum.prompt.add(usage.prompt_tokens, usage.prefill);
        // The first token of an answer comes out of its prompt.
        sum.answer.add(usage.completion_tokens.saturating_sub(1), usage.decode);
    }

    /// Begins anew, for a model that was just loaded.
    pub(super) fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Sum::default();
    }

    pub(super) fn figures(&self) -> Figures {
        let sum = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Figures {
            requests: sum.requests,
            prefill_tokens_per_s: sum.prompt.rate(),
            decode_tokens_per_s: sum.answer.rate(),
        }
    }
}

impl Part {
    fn add(&mut self, tokens: usize, time: Duration) {
        self.tokens += tokens;
        self.time += time;
    }

    fn rate(self) -> Option<f64> {
        let seconds = self.time.as_secs_f64();
        (self.tokens > 0 && seconds > 0.0).then(|| self.tokens as f64 / seconds)
    }
}
