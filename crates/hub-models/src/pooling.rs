//! How the rows of a text become one vector, read from the files that sentence-transformers writes.

use std::path::Path;

use hub_nn::{
    executor::{Output, Outputs},
    spec::ModelSpec,
    weights::Metadata,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Error, bundle::Bundle};

/// From rows to a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pooling {
    mode: Mode,
    /// Whether texts are lower-cased before the tokenizer sees them.
    lowers: bool,
    /// What the model's authors put before each text.
    prompt: String,
    /// Whether vectors are scaled to length one.
    normalizes: bool,
    /// The longest text the model was made for, in tokens.
    pub(crate) max_tokens: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The mean of all rows.
    Mean,
    /// The first row.
    First,
    /// The last row.
    Last,
    /// The largest of each number over all rows.
    Max,
}

/// Whether a folder says how rows become vectors, so that vectors are what its model is for.
pub(crate) fn is_prescribed(folder: &Path) -> bool {
    folder.join("modules.json").is_file()
}

/// One entry of `modules.json`.
#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// `sentence_bert_config.json`.
#[derive(Default, Deserialize)]
struct Limits {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

/// The part of `config_sentence_transformers.json` that changes a vector.
#[derive(Default, Deserialize)]
struct Prompts {
    #[serde(default)]
    prompts: Map<String, Value>,
    default_prompt_name: Option<String>,
}

impl Pooling {
    /// Reads what a model's files prescribe: its mean, not scaled, where they say nothing.
    pub(crate) fn of(bundle: &Bundle) -> Result<Self, Error> {
        let context = bundle.spec.context_tokens;
        let Some(modules) = bundle.beside::<Vec<Module>>("modules.json")? else {
            return Self::from_gguf(bundle.weights.metadata(), &bundle.spec);
        };
        let limits: Limits = bundle.beside("sentence_bert_config.json")?.unwrap_or_default();
        let max_tokens = limits.max_seq_length.unwrap_or(context).min(context);
        let prompts: Prompts = bundle.beside("config_sentence_transformers.json")?.unwrap_or_default();
        let mut pooling = Self {
            mode: Mode::Mean,
            lowers: limits.do_lower_case,
            prompt: prompts.chosen()?,
            normalizes: false,
            max_tokens,
        };
        for module in &modules {
            match module.kind.rsplit('.').next() {
                Some("Transformer") => {}
                Some("Pooling") => {
                    let config: Map<String, Value> =
                        bundle.beside(&format!("{}/config.json", module.path))?.unwrap_or_default();
                    pooling.mode = Mode::from_config(&config)?;
                    // A prompt that does not count for the vector would have to be told from the text.
                    let leaves_out = config.get("include_prompt") == Some(&Value::Bool(false));
                    if leaves_out && !pooling.prompt.is_empty() {
                        return Err(unsupported("pooling configuration", "include_prompt", "false"));
                    }
                }
                Some("Normalize") => pooling.normalizes = true,
                _ => return Err(unsupported("modules.json", "type", &module.kind)),
            }
        }
        Ok(pooling)
    }

    fn from_gguf(metadata: &Metadata, spec: &ModelSpec) -> Result<Self, Error> {
        let architecture = metadata.str("general.architecture").unwrap_or("");
        let mode = match metadata.u64(&format!("{architecture}.pooling_type")) {
            // 1 is llama.cpp's number for the mean, which is also what a folder without modules means.
            None | Some(1) => Mode::Mean,
            Some(2) => Mode::First,
            Some(3) => Mode::Last,
            Some(other) => return Err(unsupported("metadata", "pooling_type", &other.to_string())),
        };
        // A GGUF file does not say whether vectors are scaled; llama.cpp's server scales them all.
        let normalizes = metadata.str("general.architecture").is_some();
        let (lowers, prompt) = (false, String::new());
        Ok(Self { mode, lowers, prompt, normalizes, max_tokens: spec.context_tokens })
    }

    /// Returns a text as the tokenizer is to see it.
    pub(crate) fn prepare(&self, text: String) -> String {
        let text = if self.prompt.is_empty() { text } else { format!("{}{text}", self.prompt) };
        if self.lowers { text.to_lowercase() } else { text }
    }

    /// Returns which rows of a text are needed.
    pub(crate) fn outputs(&self) -> Outputs {
        match self.mode {
            Mode::Mean | Mode::Max => Outputs::All,
            Mode::First => Outputs::First,
            Mode::Last => Outputs::Last,
        }
    }

    /// Makes one vector of the rows of a text, and keeps its first `dimensions` numbers.
    pub(crate) fn vector(&self, rows: &Output, dimensions: usize) -> Vec<f32> {
        let mut vector = self.pool(rows);
        vector.truncate(dimensions);
        // A shortened vector has lost its length, so it is scaled whatever the files say.
        if self.normalizes || dimensions < rows.width() {
            normalize(&mut vector);
        }
        vector
    }

    fn pool(&self, rows: &Output) -> Vec<f32> {
        let mut all = rows.rows();
        let mut vector = all.next().map(<[f32]>::to_vec).unwrap_or_default();
        let mut count = 1.0;
        for row in all {
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

impl Prompts {
    /// Returns the text of the prompt that is used where a caller names none.
    fn chosen(&self) -> Result<String, Error> {
        let Some(name) = &self.default_prompt_name else { return Ok(String::new()) };
        let text = self.prompts.get(name).and_then(Value::as_str).map(str::to_owned);
        text.ok_or_else(|| unsupported("config_sentence_transformers.json", "default_prompt_name", name))
    }
}

impl Mode {
    /// Reads `1_Pooling/config.json`, in the form of version 5 (`pooling_mode`) and the older one (a flag a mode).
    fn from_config(config: &Map<String, Value>) -> Result<Self, Error> {
        let is_set = |(_, value): &(&String, &Value)| **value == Value::Bool(true);
        let flagged = config.iter().filter(is_set).filter_map(|(key, _)| key.strip_prefix("pooling_mode_"));
        let named = config.get("pooling_mode").and_then(Value::as_str);
        let modes: Vec<&str> = named.into_iter().chain(flagged).collect();
        match modes.as_slice() {
            ["mean" | "mean_tokens"] => Ok(Self::Mean),
            ["cls" | "cls_token"] => Ok(Self::First),
            ["lasttoken"] => Ok(Self::Last),
            ["max" | "max_tokens"] => Ok(Self::Max),
            other => Err(unsupported("pooling configuration", "pooling_mode", &other.join(" and "))),
        }
    }
}

fn unsupported(file: &'static str, key: &str, value: &str) -> Error {
    Error::ModelFile { file, key: key.to_owned(), value: value.to_owned() }
}

fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    // The least length is sentence-transformers' own guard against a division by zero.
    let length = length.max(1e-12);
    vector.iter_mut().for_each(|number| *number /= length);
}
