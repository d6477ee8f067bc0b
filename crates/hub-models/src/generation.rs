//! What a model's authors recommend for generating, and how a request overrides it.

use hub_nn::weights::Metadata;
use serde::Deserialize;

use crate::{
    options::SamplingOptions,
    sample::{InvalidSampling, Sampling},
};

/// The part of `generation_config.json` that changes an answer; every other key of it is about training or about how
/// `transformers` calls its own loop.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub(crate) struct GenerationConfig {
    #[serde(default)]
    eos_token_id: OneOrMany,
    temperature: Option<f32>,
    top_k: Option<u32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
}

/// One token id, or several.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(untagged)]
enum OneOrMany {
    #[default]
    None,
    One(u32),
    Many(Vec<u32>),
}

impl GenerationConfig {
    /// Reads what llama.cpp's converter keeps of it.
    pub(crate) fn from_gguf(metadata: &Metadata) -> Self {
        let number = |key: &str| metadata.f64(&format!("general.sampling.{key}")).map(|number| number as f32);
        Self {
            eos_token_id: OneOrMany::None,
            temperature: number("temp"),
            top_k: metadata.u64("general.sampling.top_k").and_then(|number| u32::try_from(number).ok()),
            top_p: number("top_p"),
            min_p: number("min_p"),
            repetition_penalty: number("penalty_repeat"),
        }
    }

    /// Returns the tokens that end an answer.
    pub(crate) fn end_tokens(&self) -> &[u32] {
        match &self.eos_token_id {
            OneOrMany::None => &[],
            OneOrMany::One(id) => std::slice::from_ref(id),
            OneOrMany::Many(ids) => ids,
        }
    }

    /// Returns how tokens are drawn for a request: what it says, else what the model's authors say, else plain
    /// sampling from the model's own distribution.
    ///
    /// `fresh_seed` is used where the request names none.
    ///
    /// # Errors
    /// [`InvalidSampling`] naming the value that has no meaning.
    pub(crate) fn sampling(
        &self,
        asked: &SamplingOptions,
        fresh_seed: u64,
    ) -> Result<Sampling, InvalidSampling> {
        let temperature = asked.temperature.or(self.temperature).unwrap_or(1.0);
        let sampling = Sampling::default()
            .temperature(temperature)?
            .top_k(asked.top_k.or(self.top_k))
            .top_p(asked.top_p.or(self.top_p))?
            .min_p(asked.min_p.or(self.min_p))?
            .repetition_penalty(asked.repetition_penalty.or(self.repetition_penalty).unwrap_or(1.0))?
            .presence_penalty(asked.presence_penalty.unwrap_or(0.0))?
            .frequency_penalty(asked.frequency_penalty.unwrap_or(0.0))?
            .logit_bias(asked.logit_bias.clone())?;
        Ok(sampling.seed(asked.seed.unwrap_or(fresh_seed)))
    }
}
