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
    do_sample: Option<bool>,
    min_new_tokens: Option<usize>,
    stop_strings: Option<OneOrManyTexts>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Keys that change an answer and are not implemented, each with the number that changes nothing, if there is one.
/// `null`, `false` and an empty list change nothing either.
const REFUSED: &[(&str, Option<f64>)] = &[
    ("bad_words_ids", None),
    ("begin_suppress_tokens", None),
    ("encoder_repetition_penalty", Some(1.0)),
    ("epsilon_cutoff", Some(0.0)),
    ("eta_cutoff", Some(0.0)),
    ("exponential_decay_length_penalty", None),
    ("forced_bos_token_id", None),
    ("forced_eos_token_id", None),
    ("guidance_scale", Some(1.0)),
    ("no_repeat_ngram_size", Some(0.0)),
    ("num_beams", Some(1.0)),
    ("sequence_bias", None),
    ("suppress_tokens", None),
    ("typical_p", Some(1.0)),
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

/// One text, or several.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum OneOrManyTexts {
    One(String),
    Many(Vec<String>),
}

impl GenerationConfig {
    /// Returns the texts that end every answer.
    pub(crate) fn stop(&self) -> &[String] {
        match &self.stop_strings {
            None => &[],
            Some(OneOrManyTexts::One(text)) => std::slice::from_ref(text),
            Some(OneOrManyTexts::Many(texts)) => texts,
        }
    }

    /// Returns the fewest tokens an answer has where the request does not say.
    pub(crate) fn min_tokens(&self) -> usize {
        self.min_new_tokens.unwrap_or(0)
    }

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
        let says_nothing = |value: &Value, neutral: Option<f64>| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(values) => values.is_empty(),
            value => neutral.is_some() && value.as_f64() == neutral,
        };
        for (key, neutral) in REFUSED {
            if let Some(value) = self.others.get(*key).filter(|value| !says_nothing(value, *neutral)) {
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
            do_sample: None,
            min_new_tokens: None,
            stop_strings: None,
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
        // Whoever only says not to draw means the likeliest token.
        let default = if self.do_sample == Some(false) { 0.0 } else { 1.0 };
        let temperature = asked.temperature.or(self.temperature).unwrap_or(default);
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
