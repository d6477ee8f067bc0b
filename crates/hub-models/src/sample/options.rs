use std::num::NonZeroU32;

use super::penalty::Penalties;

/// How tokens are drawn.
///
/// Every value that can be written is legal; the setters refuse what has no meaning. The default draws from the
/// model's own distribution.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sampling {
    pub(super) temperature: f32,
    pub(super) top_k: Option<NonZeroU32>,
    pub(super) top_p: Option<Probability>,
    pub(super) min_p: Option<Probability>,
    pub(super) penalties: Penalties,
    pub(super) logit_bias: Vec<(u32, f32)>,
    pub(super) seed: u64,
    pub(super) choice: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: None,
            top_p: None,
            min_p: None,
            penalties: Penalties::default(),
            logit_bias: Vec::new(),
            seed: 0,
            choice: 0,
        }
    }
}

impl Sampling {
    /// Whether some tokens are left out of the draw.
    pub(super) fn cuts(&self) -> bool {
        self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some()
    }

    /// Divides the logits by `temperature`; 0 takes the likeliest token.
    ///
    /// # Errors
    /// If it is negative or infinite.
    pub fn temperature(mut self, temperature: f32) -> Result<Self, InvalidSampling> {
        let is_legal = temperature.is_finite() && temperature >= 0.0;
        self.temperature = check("temperature", temperature, is_legal, "0 or more")?;
        Ok(self)
    }

    /// Draws among the `k` likeliest tokens, ties going to the smaller ids; 0 does not cut.
    pub fn top_k(mut self, k: Option<u32>) -> Self {
        self.top_k = k.and_then(NonZeroU32::new);
        self
    }

    /// Draws among the likeliest tokens that together hold `p` of the probability; 0 leaves the likeliest alone, 1
    /// does not cut.
    ///
    /// # Errors
    /// If it is not a probability.
    pub fn top_p(mut self, p: Option<f32>) -> Result<Self, InvalidSampling> {
        self.top_p = p.map(|p| Probability::named("top_p", p)).transpose()?.filter(|p| p.0 < 1.0);
        Ok(self)
    }

    /// Draws among the tokens that are at least `p` times as probable as the likeliest; 0 does not cut.
    ///
    /// # Errors
    /// If it is not a probability.
    pub fn min_p(mut self, p: Option<f32>) -> Result<Self, InvalidSampling> {
        self.min_p = p.map(|p| Probability::named("min_p", p)).transpose()?.filter(|p| p.0 > 0.0);
        Ok(self)
    }

    /// Divides positive logits of tokens in the prompt or the answer by `penalty`, and multiplies negative ones; 1
    /// does nothing.
    ///
    /// Source: Keskar et al. 2019, <https://arxiv.org/abs/1909.05858>, section 4.1, as in `transformers`.
    ///
    /// # Errors
    /// If it is not over 0, or infinite.
    pub fn repetition_penalty(mut self, penalty: f32) -> Result<Self, InvalidSampling> {
        let is_legal = penalty.is_finite() && penalty > 0.0;
        self.penalties.repetition = check("repetition_penalty", penalty, is_legal, "more than 0")?;
        Ok(self)
    }

    /// Subtracts `penalty` from the logits of tokens in the answer; 0 does nothing.
    ///
    /// # Errors
    /// If it is not from -2 to 2.
    pub fn presence_penalty(mut self, penalty: f32) -> Result<Self, InvalidSampling> {
        let is_legal = (-2.0..=2.0).contains(&penalty);
        self.penalties.presence = check("presence_penalty", penalty, is_legal, "from -2 to 2")?;
        Ok(self)
    }

    /// Subtracts `penalty` from the logit of a token for each time it stands in the answer; 0 does nothing.
    ///
    /// # Errors
    /// If it is not from -2 to 2.
    pub fn frequency_penalty(mut self, penalty: f32) -> Result<Self, InvalidSampling> {
        let is_legal = (-2.0..=2.0).contains(&penalty);
        self.penalties.frequency = check("frequency_penalty", penalty, is_legal, "from -2 to 2")?;
        Ok(self)
    }

    /// Adds to the logits of these tokens.
    ///
    /// # Errors
    /// If a bias is not from -100 to 100. Whether the tokens exist is known only where they are drawn.
    pub fn logit_bias(mut self, bias: Vec<(u32, f32)>) -> Result<Self, InvalidSampling> {
        for (_, bias) in &bias {
            check("logit_bias", *bias, (-100.0..=100.0).contains(bias), "from -100 to 100")?;
        }
        self.logit_bias = bias;
        Ok(self)
    }

    /// Starts the random numbers here: the same seed draws the same tokens.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Returns the same sampling for another answer to the same request, with random numbers of its own.
    ///
    /// Answer 0 draws what the request alone would.
    pub fn reseeded(&self, choice: u64) -> Self {
        Self { choice, ..self.clone() }
    }
}

/// A number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Probability(f32);

impl Probability {
    /// Checks a number.
    ///
    /// # Errors
    /// If it is not from 0 to 1.
    pub fn new(value: f32) -> Result<Self, InvalidSampling> {
        Self::named("probability", value)
    }

    /// Returns the number.
    pub fn get(self) -> f32 {
        self.0
    }

    fn named(name: &'static str, value: f32) -> Result<Self, InvalidSampling> {
        check(name, value, (0.0..=1.0).contains(&value), "from 0 to 1").map(Self)
    }
}

/// A sampling option has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("`{name}` must be {range}, not {value}")]
#[non_exhaustive]
pub struct InvalidSampling {
    /// The option, as requests name it.
    pub name: &'static str,
    /// What was asked.
    pub value: f32,
    /// What is possible.
    pub range: &'static str,
}

fn check(
    name: &'static str,
    value: f32,
    is_legal: bool,
    range: &'static str,
) -> Result<f32, InvalidSampling> {
    if is_legal { Ok(value) } else { Err(InvalidSampling { name, value, range }) }
}
