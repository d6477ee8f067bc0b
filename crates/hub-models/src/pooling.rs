//! How the rows of a text become one vector, read from the files that sentence-transformers writes.

use hub_nn::{
    executor::{Output, Outputs, Want},
    spec::{Head, Mask, ModelSpec, RowPooling},
    state::MAX_STEP_TOKENS,
    weights::Metadata,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{EmbedPrompt, Error, bundle::Bundle, family, modules::Modules};

/// From rows to a vector.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pooling {
    mode: Mode,
    /// Whether the model itself makes one row of all, and the vector of that.
    is_of_model: bool,
    /// Whether texts are lower-cased before the tokenizer sees them.
    lowers: bool,
    /// What the model's authors put before texts.
    prompts: Prompts,
    /// Whether what stands before a text does not count for its vector.
    leaves_prompt_out: bool,
    /// Whether vectors are scaled to length one.
    normalizes: bool,
    /// The longest text the model was made for, in tokens.
    pub(crate) max_tokens: usize,
}

/// How rows become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The mean of all rows.
    Mean,
    /// The first row.
    First,
    /// The last row.
    Last,
    /// The largest of each number over all rows.
    Max,
}

/// `sentence_bert_config.json`.
#[derive(Default, Deserialize)]
struct Limits {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

/// The part of `config_sentence_transformers.json` that changes a vector, or a score.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub(crate) struct Prompts {
    #[serde(default)]
    prompts: Map<String, Value>,
    default_prompt_name: Option<String>,
}

impl Pooling {
    /// Reads what a model's files prescribe: its mean, not scaled, where they say nothing.
    pub(crate) fn of(bundle: &Bundle) -> Result<Self, Error> {
        let context = bundle.spec.context_tokens;
        let Some(modules) = &bundle.modules else {
            return Self::from_gguf(bundle.weights.metadata(), &bundle.spec);
        };
        let limits: Limits = bundle.beside("sentence_bert_config.json")?.unwrap_or_default();
        let (mode, config) = modules.pooling()?.unwrap_or((Mode::Mean, Map::new()));
        Ok(Self {
            mode,
            is_of_model: matches!(bundle.spec.head, Head::Vector(_)),
            lowers: limits.do_lower_case,
            prompts: Prompts::of(bundle)?,
            leaves_prompt_out: config.get("include_prompt") == Some(&Value::Bool(false)),
            normalizes: normalizes(modules)?,
            max_tokens: limits.max_seq_length.unwrap_or(context).min(context).min(most(&bundle.spec)),
        })
    }

    fn from_gguf(metadata: &Metadata, spec: &ModelSpec) -> Result<Self, Error> {
        // A folder without modules means the mean.
        let mode = Mode::from_gguf(metadata)?.unwrap_or(Mode::Mean);
        // A GGUF file does not say whether vectors are scaled; llama.cpp's server scales them all.
        let normalizes = metadata.str("general.architecture").is_some();
        let is_of_model = matches!(spec.head, Head::Vector(_));
        let (lowers, leaves_prompt_out, prompts) = (false, false, Prompts::default());
        let max_tokens = spec.context_tokens.min(most(spec));
        Ok(Self { mode, is_of_model, lowers, prompts, leaves_prompt_out, normalizes, max_tokens })
    }

    /// Checks what is otherwise met at the first text.
    ///
    /// # Errors
    /// [`Error::ModelFile`] naming what cannot be used.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.max_tokens == 0 {
            return Err(unsupported("sentence_bert_config.json", "max_seq_length", "0"));
        }
        if let Some((name, _)) = self.prompts.prompts.iter().find(|(_, text)| !text.is_string()) {
            return Err(unsupported("config_sentence_transformers.json", "prompts", name));
        }
        self.prompts.default_text().map(drop)
    }

    /// Returns a text as the tokenizer is to see it.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a prompt that the model's files do not name.
    pub(crate) fn prepare(&self, text: String, prompt: &EmbedPrompt) -> Result<String, Error> {
        let prompt = self.prompts.choose(prompt)?;
        // It would have to be told from the text.
        if self.leaves_prompt_out && !prompt.is_empty() {
            return Err(unsupported("pooling configuration", "include_prompt", "false"));
        }
        let text = if prompt.is_empty() { text } else { format!("{prompt}{text}") };
        Ok(if self.lowers { text.to_lowercase() } else { text })
    }

    /// Returns what is wanted of the model.
    pub(crate) fn want(&self) -> Want {
        if self.is_of_model { Want::Head } else { Want::Hidden }
    }

    /// Returns which rows of a text are needed.
    pub(crate) fn outputs(&self) -> Outputs {
        match self.mode {
            Mode::Mean | Mode::Max => Outputs::All,
            Mode::First => Outputs::First,
            Mode::Last => Outputs::Last,
        }
    }

    /// Makes one vector of the rows of a text, of which the first `width` numbers count, and keeps its first `dimensions`.
    pub(crate) fn vector(&self, rows: &Output, width: usize, dimensions: usize) -> Vec<f32> {
        let mut vector = self.pool(rows);
        vector.truncate(dimensions);
        // A shortened vector has lost its length, so it is scaled whatever the files say.
        if self.normalizes || dimensions < width {
            normalize(&mut vector);
        }
        vector
    }

    fn pool(&self, rows: &Output) -> Vec<f32> {
        let mut all = rows.rows();
        let first = if self.mode == Mode::Last { all.by_ref().last() } else { all.next() };
        let mut vector = first.map(<[f32]>::to_vec).unwrap_or_default();
        let mut count = 1.0;
        for row in all.filter(|_| self.mode != Mode::First) {
            count += 1.0;
            for (sum, number) in vector.iter_mut().zip(row) {
                *sum = if self.mode == Mode::Max { sum.max(*number) } else { *sum + number };
            }
        }
        if self.mode == Mode::Mean {
            vector.iter_mut().for_each(|sum| *sum /= count);
        }
        vector
    }
}

/// Returns how long texts may be for their rows to pass a model together: where rows see those before them alone, they go
/// through it in pieces, and no piece has the mean of all.
fn most(spec: &ModelSpec) -> usize {
    let is_mean = matches!(&spec.head, Head::Vector(pooled) if pooled.pooling == RowPooling::Mean);
    if is_mean && spec.mask == Mask::Causal { MAX_STEP_TOKENS } else { usize::MAX }
}

/// Reads whether vectors are scaled, and refuses parts that are not known.
fn normalizes(modules: &Modules) -> Result<bool, Error> {
    let mut is_pooled = false;
    for module in modules.iter() {
        match (module.kind(), is_pooled) {
            ("Transformer", false) | ("Dense" | "Normalize", true) => {}
            ("Pooling", false) => is_pooled = true,
            _ => return Err(module.unsupported()),
        }
    }
    let kinds: Vec<&str> = modules.iter().map(|module| module.kind()).collect();
    match kinds.iter().position(|kind| *kind == "Normalize") {
        Some(at) if kinds[at..].contains(&"Dense") => {
            Err(unsupported("modules.json", "type", "Dense behind Normalize"))
        }
        place => Ok(place.is_some()),
    }
}

impl Prompts {
    pub(crate) fn of(bundle: &Bundle) -> Result<Self, Error> {
        Ok(bundle.beside("config_sentence_transformers.json")?.unwrap_or_default())
    }

    /// Returns the text of a prompt, by the rules of sentence-transformers' `encode`, `encode_query` and
    /// `encode_document`.
    fn choose(&self, prompt: &EmbedPrompt) -> Result<&str, Error> {
        let first = |names: &[&str]| names.iter().find_map(|name| self.text(name));
        let found = match prompt {
            EmbedPrompt::Default => None,
            EmbedPrompt::Query => first(&["query"]),
            EmbedPrompt::Document => first(&["document", "passage", "corpus"]),
            EmbedPrompt::Named(name) => Some(self.text(name).ok_or_else(|| self.unknown(name))?),
        };
        found.map_or_else(|| self.default_text(), Ok)
    }

    /// Returns the text that is used where a caller names none.
    pub(crate) fn default_text(&self) -> Result<&str, Error> {
        let Some(name) = &self.default_prompt_name else { return Ok("") };
        let unknown = || unsupported("config_sentence_transformers.json", "default_prompt_name", name);
        self.text(name).ok_or_else(unknown)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.prompts.get(name)?.as_str()
    }

    fn unknown(&self, name: &str) -> Error {
        let known: Vec<&str> = self.prompts.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "no prompt".to_owned() } else { known.join(", ") };
        let reason = format!("is {name:?}, and the model's files name {known}");
        Error::InvalidOption { name: "prompt_name", reason }
    }
}

impl Mode {
    /// Reads what a GGUF file says by llama.cpp's numbers; nothing if it says nothing.
    pub(crate) fn from_gguf(metadata: &Metadata) -> Result<Option<Self>, Error> {
        let architecture = metadata.str("general.architecture").unwrap_or("");
        let Some(number) = metadata.u64(&format!("{architecture}.pooling_type")) else { return Ok(None) };
        match family::row_pooling(number) {
            Some(RowPooling::Mean) => Ok(Some(Self::Mean)),
            Some(RowPooling::First) => Ok(Some(Self::First)),
            Some(RowPooling::Last) => Ok(Some(Self::Last)),
            None => Err(unsupported("metadata", "pooling_type", &number.to_string())),
        }
    }

    /// Returns how a model does it itself, if one can.
    pub(crate) fn rows(self) -> Option<RowPooling> {
        match self {
            Self::Mean => Some(RowPooling::Mean),
            Self::First => Some(RowPooling::First),
            Self::Last => Some(RowPooling::Last),
            Self::Max => None,
        }
    }

    /// Reads `1_Pooling/config.json`, in the form of version 5 (`pooling_mode`) and the older one (a flag a mode).
    pub(crate) fn from_config(config: &Map<String, Value>) -> Result<Self, Error> {
        let is_set = |(_, value): &(&String, &Value)| **value == Value::Bool(true);
        let flagged = config.iter().filter(is_set).filter_map(|(key, _)| key.strip_prefix("pooling_mode_"));
        let named = config.get("pooling_mode").and_then(Value::as_str);
        let modes: Vec<&str> = named.into_iter().chain(flagged).collect();
        match modes.as_slice() {
            ["mean" | "mean_tokens"] => Ok(Self::Mean),
            ["cls" | "cls_token"] => Ok(Self::First),
            ["lasttoken"] => Ok(Self::Last),
            ["max" | "max_tokens"] => Ok(Self::Max),
            [] => Err(unsupported("pooling configuration", "pooling_mode", "not there")),
            other => Err(unsupported("pooling configuration", "pooling_mode", &other.join(" and "))),
        }
    }
}

pub(crate) fn unsupported(file: &'static str, key: &str, value: &str) -> Error {
    Error::ModelFile { file, key: key.to_owned(), value: value.to_owned() }
}

pub(crate) fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    // The least length is sentence-transformers' own guard against a division by zero.
    let length = length.max(1e-12);
    vector.iter_mut().for_each(|number| *number /= length);
}
