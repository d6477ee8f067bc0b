use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hub_models::Usage;

/// How much what was measured before counts beside a request: a model's speed is that of its last requests.
const FADE: f64 = 0.8;

/// What a model has done since it was loaded.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Sum>);

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    requests: u64,
    prompt: Part,
    answer: Part,
}

/// Tokens and the seconds they took, those of earlier requests in part.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    tokens: f64,
    seconds: f64,
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
        // A request that was not computed says nothing of the speed.
        if tokens > 0 && !time.is_zero() {
            self.tokens = FADE * self.tokens + tokens as f64;
            self.seconds = FADE * self.seconds + time.as_secs_f64();
        }
    }

    fn rate(self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.tokens / self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_is_that_of_the_last_requests() {
        let mut part = Part::default();
        assert_eq!(part.rate(), None);
        part.add(0, Duration::from_secs(1));
        assert_eq!(part.rate(), None);
        for _ in 0..100 {
            part.add(3, Duration::from_secs(1));
        }
        for _ in 0..20 {
            part.add(100, Duration::from_secs(1));
        }
        let rate = part.rate().unwrap_or_default();
        assert!((98.0..100.0).contains(&rate), "{rate}");
    }
}
