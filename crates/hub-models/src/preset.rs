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
    /// How tokens are drawn.
    pub sampling: SamplingOptions,
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
        GenerationConfig::default().sampling(&self.sampling, 0)?;
        check_stops(&self.stop)
    }
}
