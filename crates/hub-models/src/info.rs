use std::collections::BTreeMap;

use hub_base::{OverBudget, Reservation, Task};
use hub_nn::{
    Device,
    executor::{ExecutorOptions, Work},
    state::Group,
};
use serde::Serialize;

use crate::{Card, Error, LayerKind, Source, bundle::Bundle, m3::M3, pair::PairForm, pooling::Pooling};

/// What a model is, read from its files without loading it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ModelInfo {
    /// What it can be asked to do.
    pub task: Task,
    /// The family that reads it: `"qwen3"`.
    pub family: &'static str,
    /// How its weights are stored: `"safetensors"` or `"gguf"`.
    pub format: &'static str,
    /// Number of parameters.
    pub parameters: u64,
    /// How many of them a token goes through: fewer where it goes through some experts of many.
    pub active_parameters: u64,
    /// Bytes of all its tensors in the files.
    pub file_bytes: u64,
    /// The files of its weights, by path; none for the model inside this program.
    #[serde(skip)]
    pub files: Vec<String>,
    /// Number of tensors per kind of weight: `{"Q8_0": 43, "F32": 13}`.
    pub weight_kinds: BTreeMap<&'static str, usize>,
    /// The kinds of weight that are kept and multiplied as another one, and as which. That holds the same numbers, but
    /// where plain ones are rounded while they are loaded:
    /// `{"IQ3_S": "four bits of a table", "FP8 (E4M3)": "F32"}`.
    pub unpacked_kinds: BTreeMap<&'static str, String>,
    /// What a GGUF file says of all its weights together: `"Q4_K_M"`.
    pub mix: Option<&'static str>,
    /// The longest sequence it was made for, in tokens.
    pub context_tokens: usize,
    /// Number of tokens it knows.
    pub vocab_size: usize,
    /// Width of its hidden state, and of the vectors of an embedding model.
    pub hidden_size: usize,
    /// Number of layers.
    pub layers: usize,
    /// How many of them are of which kind.
    pub layer_kinds: Vec<LayerKind>,
    /// Bytes that one sequence of `context_tokens` keeps between steps; 0 for encoders.
    pub context_bytes: u64,
    /// Bytes of its weights once they are loaded.
    pub loaded_bytes: u64,
    /// Bytes that its largest steps compute in, by default, about.
    pub scratch_bytes: u64,
    /// Bytes of its vocabulary once that is loaded, about.
    pub vocabulary_bytes: u64,
    /// What computing with them takes.
    #[serde(skip)]
    pub work: Work,
    /// Layers that cache alike, which is what a sequence takes memory for.
    #[serde(skip)]
    pub(crate) groups: Vec<Group>,
    /// How they are kept.
    #[serde(skip)]
    pub(crate) executor: ExecutorOptions,
    /// Whether it carries a chat template.
    pub has_chat_template: bool,
    /// What it can be asked for: `chat`, `completion`, `reasoning`, `embedding`, `reranking`.
    pub capabilities: Vec<&'static str>,
    /// What it is good at, as far as its authors say so: `code`, `math`.
    pub specialities: Vec<&'static str>,
    /// What its authors say of it.
    pub card: Card,
    /// What is known not to work with it, in words.
    pub limits: Vec<String>,
    /// Tensors of the files that are not used.
    pub left_out: Vec<LeftOutTensor>,
}

impl ModelInfo {
    /// Returns how many bytes one sequence of `tokens` keeps between steps at most; exact, windows included.
    pub fn state_bytes(&self, tokens: usize) -> u64 {
        self.groups.iter().map(|group| self.executor.state_bytes(group, tokens)).sum()
    }

    /// Returns how many bytes a loaded model takes with one sequence of `tokens`: weights, state, what steps compute in,
    /// and the vocabulary; not what the program takes without a model.
    pub fn memory_bytes(&self, tokens: usize) -> u64 {
        self.memory_bytes_with(self.loaded_bytes, tokens)
    }

    /// The same, if its weights take so many bytes in another kind.
    pub fn memory_bytes_with(&self, weight_bytes: u64, tokens: usize) -> u64 {
        [weight_bytes, self.state_bytes(tokens), self.scratch_bytes, self.vocabulary_bytes]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// Returns how many bytes a loaded model takes beside its weights and what sequences keep: what steps compute in, and the
    /// vocabulary.
    pub fn work_bytes(&self) -> u64 {
        self.scratch_bytes.saturating_add(self.vocabulary_bytes)
    }

    /// Books what a model takes beside its weights and what sequences keep, for as long as it lives.
    ///
    /// # Errors
    /// [`Error::Memory`] with what all of it takes, if there is no room for its weights as well: so whoever makes room knows at once
    /// for how much.
    pub(crate) fn book_work(&self, device: &Device) -> Result<Reservation, Error> {
        let account = device.account();
        let refused = |source| Error::Memory { what: "its weights and the work of its steps", source };
        let (asked, free) = (self.loaded_bytes.saturating_add(self.work_bytes()), account.free_bytes());
        if free < asked {
            return Err(refused(OverBudget { asked, free, limit: account.limit_bytes() }));
        }
        account.reserve(self.work_bytes()).map_err(refused)
    }

    /// Returns the longest sequence of this model that `bytes` hold with all else that it takes, in tokens: at least one, at
    /// most what the model was made for.
    pub fn context_within(&self, bytes: u64) -> usize {
        let fits = |tokens: usize| self.memory_bytes(tokens) <= bytes;
        let (mut least, mut most) = (1, self.context_tokens.max(1));
        // What a sequence keeps never shrinks as it grows.
        while least < most {
            let middle = most - (most - least) / 2;
            if fits(middle) { least = middle } else { most = middle - 1 }
        }
        least
    }
}

/// A tensor of the files that is not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOutTensor {
    /// Its name.
    pub name: String,
    /// Why the model is whole without it.
    pub reason: &'static str,
}

/// Reads what a model is from the heads of its files, without loading it.
///
/// # Errors
/// Where the files are missing, damaged or of an unknown kind.
pub fn inspect(source: &Source) -> Result<ModelInfo, Error> {
    inspect_for(source, ExecutorOptions::default())
}

/// The same, with the memory that the model takes if it runs as `executor` says.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_for(source: &Source, executor: ExecutorOptions) -> Result<ModelInfo, Error> {
    Ok(Bundle::open(source)?.info(executor))
}

/// Reads everything of a model but its weights, as opening it does, so that what is wrong is known before its first
/// use.
///
/// # Errors
/// As [`inspect`], and where the tokenizer, the chat template or the defaults for generating cannot be used.
pub fn verify(source: &Source) -> Result<ModelInfo, Error> {
    let bundle = Bundle::open(source)?;
    let tokenizer = bundle.tokenizer()?;
    match bundle.task() {
        Task::Chat => {
            bundle.generation_config()?.check()?;
            bundle.template(None)?;
            bundle.end_tokens(&tokenizer)?;
        }
        Task::Embed => {
            Pooling::of(&bundle)?.check()?;
            M3::of(&bundle, &tokenizer)?;
        }
        Task::Rerank => drop(PairForm::of(&bundle, &tokenizer)?),
    }
    Ok(bundle.info(ExecutorOptions::default()))
}

/// Reads a model's chat template, as its authors wrote it; `None` if it has none.
///
/// # Errors
/// As [`inspect`].
pub fn chat_template(source: &Source) -> Result<Option<String>, Error> {
    Ok(Bundle::open(source)?.special_tokens()?.chat_template)
}
