//! How the next token is drawn: logits in, token out.
//!
//! The order of the steps is that of `transformers`: penalties, then bias, then the temperature, then the cuts top-k,
//! top-p and min-p, each over what the one before left. The bias comes after the penalties, so that a bias of 100
//! forces a token and one of -100 bans it, as OpenAI's interface promises, whatever was said before. Reported
//! probabilities are those of the model itself, before any of this, as in vLLM.
//!
//! ```
//! use hub_models::sample::{Sampler, Sampling};
//!
//! let sampling = Sampling::default().temperature(0.0)?;
//! let sampled = Sampler::new(&sampling, &[]).next(&[0.5, 2.0, 1.0], &[], Some(1))?;
//! assert_eq!(sampled.id, 1);
//! assert_eq!(sampled.top[0].0, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cut;
mod error;
mod logprob;
mod options;
mod penalty;
mod select;
mod softmax;

use hub_nn::Isa;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

use self::{cut::Left, penalty::History, softmax::Softmax};
pub use self::{
    error::SampleError,
    logprob::{Sampled, logprobs},
    options::{InvalidSampling, Probability, Sampling},
};

/// Draws the tokens of one sequence.
///
/// The n-th token drawn depends on the seed, on n and on the logits, and on nothing else that runs at the same time.
/// Memory is reused: in the long run drawing allocates nothing but what it returns.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    history: History,
    random: ChaCha8Rng,
    instructions: Isa,
    /// The logits after penalties and bias; one per token of the vocabulary.
    scores: Vec<f32>,
    left: Left,
}

impl Sampler {
    /// Starts a sequence that continues `prompt`.
    pub fn new(sampling: &Sampling, prompt: &[u32]) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(sampling.seed);
        random.set_stream(sampling.choice);
        Self {
            history: History::new(sampling.penalties, prompt),
            sampling: sampling.clone(),
            random,
            instructions: Isa::best(),
            scores: Vec::new(),
            left: Left::default(),
        }
    }

    /// Computes with these instructions, or plainer ones if the processor lacks them; the best there are otherwise.
    ///
    /// Between instructions the last bits of probabilities may differ.
    pub fn instructions(mut self, isa: Isa) -> Self {
        self.instructions = isa;
        self
    }

    /// Draws the next token, and counts it for the penalties.
    ///
    /// `logits` has one number per token of the vocabulary. Tokens in `forbidden` are not drawn. Probabilities are
    /// reported if `top` is given: the drawn token's, and those of that many likeliest tokens.
    ///
    /// A temperature of 0 takes the likeliest token, and of several the one with the smallest id. An infinite logit
    /// leaves no room for finite ones.
    ///
    /// # Errors
    /// [`SampleError::NotANumber`] and [`SampleError::NothingLeft`] for logits that no token can be drawn from,
    /// [`SampleError::UnknownToken`] if the bias names a token outside the vocabulary.
    pub fn next(
        &mut self,
        logits: &[f32],
        forbidden: &[u32],
        top: Option<u8>,
    ) -> Result<Sampled, SampleError> {
        let id = self.draw(logits, forbidden)?;
        self.history.push(id);
        Ok(match top {
            Some(top) => logprobs(logits, id, top),
            None => Sampled { id, logprob: None, top: Vec::new() },
        })
    }

    fn draw(&mut self, logits: &[f32], forbidden: &[u32]) -> Result<u32, SampleError> {
        let is_changed = self.change(logits, forbidden)?;
        let Self { sampling, random, instructions, scores, left, .. } = self;
        let scores = if is_changed { scores } else { logits };
        let max = select::max(scores)?;
        let id = if sampling.temperature == 0.0 {
            scores.iter().position(|score| *score == max).map(|id| id as u32)
        } else {
            let softmax = Softmax { scores, max, temperature: sampling.temperature, isa: *instructions };
            left.draw(sampling, softmax, uniform(random))
        };
        id.ok_or(SampleError::NothingLeft)
    }

    /// Fills the scores with what penalties, bias and bans make of `logits`; false if there are none of them.
    fn change(&mut self, logits: &[f32], forbidden: &[u32]) -> Result<bool, SampleError> {
        let Self { sampling, history, scores, .. } = self;
        if !history.has_penalties() && sampling.logit_bias.is_empty() && forbidden.is_empty() {
            return Ok(false);
        }
        scores.clear();
        scores.extend_from_slice(logits);
        history.apply(scores);
        apply_bias(&sampling.logit_bias, scores)?;
        for id in forbidden {
            if let Some(score) = scores.get_mut(*id as usize) {
                *score = f32::NEG_INFINITY;
            }
        }
        Ok(true)
    }
}

fn apply_bias(bias: &[(u32, f32)], scores: &mut [f32]) -> Result<(), SampleError> {
    let vocab_size = scores.len();
    for (id, bias) in bias {
        let score = scores.get_mut(*id as usize).ok_or(SampleError::UnknownToken { id: *id, vocab_size })?;
        *score += bias;
    }
    Ok(())
}

/// Returns a number from 0 to 1, without 1, that is a multiple of 2^-53.
fn uniform(random: &mut ChaCha8Rng) -> f64 {
    const STEP: f64 = 1.0 / (1u64 << 53) as f64;
    (random.next_u64() >> 11) as f64 * STEP
}

#[cfg(test)]
mod tests;
