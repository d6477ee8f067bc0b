use serde::{Deserialize, Serialize};

use crate::{Error, SamplingOptions, generation::GenerationConfig, options::check_stops};

/// What whoever shares a model says of its use, beside its files: the other half of an Ollama model.
///
/// It goes before what the files themselves say, and behind what a request says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Preset {
    /// The chat template, as Jinja, for a model whose files have none.
    pub chat_template: Option<String>,
    /// What the model is told before a conversation that begins with no instructions of its own.
    pub system: Option<String>,
    /// The most tokens of an answer.
    pub max_tokens: Option<usize>,
    /// Texts that end every answer.
    pub stop: Vec<String>,
    /// As in [`SamplingOptions`].
    pub temperature: Option<f32>,
    /// As in [`SamplingOptions`].
    pub top_k: Option<u32>,
    /// As in [`SamplingOptions`].
    pub top_p: Option<f32>,
    /// As in [`SamplingOptions`].
    pub min_p: Option<f32>,
    /// As in [`SamplingOptions`].
    pub repetition_penalty: Option<f32>,
    /// As in [`SamplingOptions`].
    pub presence_penalty: Option<f32>,
    /// As in [`SamplingOptions`].
    pub frequency_penalty: Option<f32>,
    /// As in [`SamplingOptions`].
    pub seed: Option<u64>,
}

impl Preset {
    /// Tells whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks that every request can be answered by it.
    ///
    /// # Errors
    /// [`Error::Sampling`] or [`Error::InvalidOption`] naming a value without meaning.
    pub fn check(&self) -> Result<(), Error> {
        let mut asked = SamplingOptions::default();
        self.fill(&mut asked);
        GenerationConfig::default().sampling(&asked, 0)?;
        check_stops(&self.stop)
    }

    /// Fills in what a request leaves open.
    pub(crate) fn fill(&self, asked: &mut SamplingOptions) {
        fn or<T: Copy>(asked: &mut Option<T>, preset: Option<T>) {
            *asked = asked.or(preset);
        }
        or(&mut asked.temperature, self.temperature);
        or(&mut asked.top_k, self.top_k);
        or(&mut asked.top_p, self.top_p);
        or(&mut asked.min_p, self.min_p);
        or(&mut asked.repetition_penalty, self.repetition_penalty);
        or(&mut asked.presence_penalty, self.presence_penalty);
        or(&mut asked.frequency_penalty, self.frequency_penalty);
        or(&mut asked.seed, self.seed);
    }
}
