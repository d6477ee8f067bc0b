//! What a model's authors recommend for generating, and how a request overrides it.

use hub_nn::weights::Metadata;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    Error,
    options::SamplingOptions,
    sample::{InvalidSampling, Sampling},
};

/// The part of `generation_config.json` that is honoured. Keys of [`REFUSED`] change an answer in ways that are not
/// implemented; every other key is a limit of `transformers`' own loop, or says nothing about the answer.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub(crate) struct GenerationConfig {
    #[serde(default)]
    eos_token_id: OneOrMany,
    temperature: Option<f32>,
    top_k: Option<u32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Keys that change an answer and are not implemented, each accepted at the values that change nothing.
const REFUSED: &[&str] = &[
    "bad_words_ids",
    "begin_suppress_tokens",
    "encoder_repetition_penalty",
    "epsilon_cutoff",
    "eta_cutoff",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "guidance_scale",
    "no_repeat_ngram_size",
    "num_beams",
    "sequence_bias",
    "suppress_tokens",
    "typical_p",
];

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
    /// Checks what the file says, once, so that no request is blamed for it.
    ///
    /// # Errors
    /// [`Error::ModelFile`] naming a key that is not implemented, or a value without meaning.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |key: &str, value: String| Error::ModelFile {
            file: "generation_config.json",
            key: key.to_owned(),
            value,
        };
        let says_nothing = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(values) => values.is_empty(),
            value => matches!(value.as_f64(), Some(number) if number == 0.0 || number == 1.0),
        };
        for key in REFUSED {
            if let Some(value) = self.others.get(*key).filter(|value| !says_nothing(value)) {
                return Err(refuse(key, value.to_string()));
            }
        }
        let sampling = self.sampling(&SamplingOptions::default(), 0);
        sampling.map(drop).map_err(|invalid| refuse(invalid.name, invalid.value.to_string()))
    }

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
            others: Map::new(),
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
