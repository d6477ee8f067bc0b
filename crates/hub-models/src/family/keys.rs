//! A model's configuration, `config.json` or GGUF metadata, read key by key so that no key goes unread.

use std::{cell::RefCell, collections::BTreeSet};

use hub_nn::weights::{Array, Metadata, Value as GgufValue};
use serde_json::{Map, Value};

use super::FamilyError;

/// Keys of `config.json` that change nothing about what a loaded model computes.
const WITHOUT_EFFECT: &[&str] = &[
    // About training: dropout and what draws the first weights, and losses.
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "classifier_dropout",
    "embd_pdrop",
    "embedding_dropout",
    "finetuning_task",
    "gradient_checkpointing",
    "hidden_dropout",
    "hidden_dropout_prob",
    "initializer_range",
    "mlp_dropout",
    "neftune_noise_alpha",
    "output_router_logits",
    "problem_type",
    "resid_pdrop",
    "residual_dropout",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "tf_legacy_loss",
    "training",
    // About how `transformers` runs the same arithmetic, and what it returns beside it.
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_flash_attn_2_enabled",
    "attn_implementation",
    "cache_implementation",
    "chunk_size_feed_forward",
    "num_logits_to_keep",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "pretraining_tp",
    "return_dict",
    "torchscript",
    "use_bfloat16",
    "use_cache",
    "use_flash_attention_2",
    // Counts layers for a switch that has to be read where it is on.
    "max_window_layers",
    // About tokens, tokenizers and generation, which have files of their own.
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "cls_token_id",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "min_length",
    "model_max_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_scores",
    "pad_token_id",
    "prefix",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tokenizer_class",
    "top_k",
    "top_p",
    "typical_p",
    "unk_token_id",
    // About labels, whose number is that of the rows of their matrix, and what reads them.
    "id2label",
    "label2id",
    "num_labels",
    "sbert_ce_default_activation_function",
    "sentence_transformers",
    // About where the files came from, and how the weights are stored.
    "_commit_hash",
    "_name_or_path",
    "architectures",
    "auto_map",
    "dtype",
    "is_llama_config",
    "language",
    "license",
    "model_type",
    "name_or_path",
    "quantization_config",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
];

/// Keys of `config.json` that change nothing while they are off.
const SWITCHES: &[&str] = &[
    "add_cross_attention",
    "attention_bias",
    "bias",
    "is_encoder_decoder",
    "mlp_bias",
    "qkv_bias",
    "tie_encoder_decoder",
    "use_mrope",
    "use_qk_norm",
    "use_sliding_window",
];

/// Prefixes of GGUF metadata that are not about the arithmetic: names and sources, the tokenizer, how it was made. The
/// last is the signature of a publisher of very many files.
const OTHER_PREFIXES: &[&str] = &["general.", "tokenizer.", "quantize.", "split.", "hub.", "mradermacher."];

/// The largest whole number that is accepted: far above any real size, and small enough that the product of two, and
/// the sum of a few products, are numbers still.
const MAX_SIZE: u64 = 1 << 30;

/// The longest list of numbers that is accepted; each layer keeps one of them.
const MAX_NUMBERS: usize = 4_096;

/// Tells whether a switch is known and off.
fn is_off(key: &str, value: &Value) -> bool {
    SWITCHES.contains(&key) && value == &Value::Bool(false)
}

/// What `transformers` takes for a key that `config.json` does not have. A key at `null` is there and says nothing.
#[derive(Clone, Copy)]
pub(super) enum DefaultValue {
    Whole(u32),
    Number(f64),
    Text(&'static str),
}

impl From<DefaultValue> for Value {
    fn from(value: DefaultValue) -> Self {
        match value {
            DefaultValue::Whole(number) => number.into(),
            DefaultValue::Number(number) => number.into(),
            DefaultValue::Text(text) => text.into(),
        }
    }
}

/// One level of a configuration.
///
/// Every key that is asked for counts as read; [`finish`](Self::finish) names the first that was not.
pub(crate) struct Keys<'a> {
    family: &'static str,
    source: Source<'a>,
    /// What stands before a key in an error: `"rope_scaling."`.
    prefix: String,
    read: RefCell<BTreeSet<String>>,
}

enum Source<'a> {
    Config(&'a Map<String, Value>),
    Gguf { metadata: &'a Metadata, architecture: &'a str },
}

impl<'a> Keys<'a> {
    /// Reads a level of `config.json`.
    pub(crate) fn config(family: &'static str, object: &'a Map<String, Value>) -> Self {
        Self::new(family, Source::Config(object), String::new())
    }

    /// Reads the metadata under the name of an architecture.
    pub(crate) fn gguf(family: &'static str, metadata: &'a Metadata, architecture: &'a str) -> Self {
        Self::new(family, Source::Gguf { metadata, architecture }, format!("{architecture}."))
    }

    fn new(family: &'static str, source: Source<'a>, prefix: String) -> Self {
        Self { family, source, prefix, read: RefCell::default() }
    }

    pub(crate) fn family(&self) -> &'static str {
        self.family
    }

    /// Returns a whole number that is needed.
    pub(crate) fn size(&self, key: &str) -> Result<usize, FamilyError> {
        self.maybe_size(key)?.ok_or_else(|| self.missing(key))
    }

    /// Returns a whole number.
    pub(crate) fn maybe_size(&self, key: &str) -> Result<Option<usize>, FamilyError> {
        let number = match self.find(key) {
            None => return Ok(None),
            Some(Found::Json(value)) => value.as_u64(),
            Some(Found::Gguf(value)) => value.as_u64(),
        };
        match number.filter(|number| *number <= MAX_SIZE) {
            Some(number) => Ok(Some(number as usize)),
            None => Err(self.bad(key, "a whole number up to 2^30")),
        }
    }

    /// Returns a positive number that is needed.
    pub(crate) fn number(&self, key: &str) -> Result<f32, FamilyError> {
        self.maybe_number(key)?.ok_or_else(|| self.missing(key))
    }

    /// Returns a positive number: multipliers, divisors, bases and limits all are.
    pub(crate) fn maybe_number(&self, key: &str) -> Result<Option<f32>, FamilyError> {
        let number = match self.find(key) {
            None => return Ok(None),
            Some(Found::Json(value)) => value.as_f64(),
            Some(Found::Gguf(value)) => value.as_f64(),
        };
        let is_epsilon = ["eps", "epsilon"].iter().any(|end| key.ends_with(end));
        match number.map(|number| number as f32).filter(|number| number.is_finite() && *number > 0.0) {
            Some(number) if is_epsilon && number >= 1.0 => Err(self.bad(key, "a small number")),
            Some(number) => Ok(Some(number)),
            None => Err(self.bad(key, "a positive number")),
        }
    }

    /// Returns a yes or no; `default` if nothing is said.
    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, FamilyError> {
        match self.find(key) {
            None => Ok(default),
            Some(Found::Json(Value::Bool(flag))) => Ok(*flag),
            Some(Found::Gguf(GgufValue::Bool(flag))) => Ok(*flag),
            Some(_) => Err(self.bad(key, "true or false")),
        }
    }

    /// Returns a text.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, FamilyError> {
        match self.find(key) {
            None => Ok(None),
            Some(Found::Json(Value::String(text))) => Ok(Some(text)),
            Some(Found::Gguf(GgufValue::String(text))) => Ok(Some(text)),
            Some(_) => Err(self.bad(key, "a text")),
        }
    }

    /// Tells whether a key holds a text.
    pub(crate) fn is_text(&self, key: &str) -> bool {
        matches!(self.find(key), Some(Found::Json(Value::String(_)) | Found::Gguf(GgufValue::String(_))))
    }

    /// Returns a list of numbers that is needed.
    pub(crate) fn numbers(&self, key: &str) -> Result<Vec<f32>, FamilyError> {
        let numbers = match self.find(key) {
            Some(Found::Json(Value::Array(values))) if values.len() <= MAX_NUMBERS => {
                let number = |value: &Value| Some(value.as_f64()? as f32).filter(|number| number.is_finite());
                values.iter().map(number).collect::<Option<Vec<f32>>>()
            }
            Some(_) => None,
            None => return Err(self.missing(key)),
        };
        numbers.ok_or_else(|| self.bad(key, "a list of at most 4096 numbers"))
    }

    /// Reads a list of whole numbers; an empty one if the key is missing.
    pub(crate) fn sizes(&self, key: &str) -> Result<Vec<usize>, FamilyError> {
        let numbers: Option<Vec<usize>> = match self.find(key) {
            None => return Ok(Vec::new()),
            Some(Found::Json(Value::Array(values))) if values.len() <= MAX_NUMBERS => {
                values.iter().map(|value| usize::try_from(value.as_u64()?).ok()).collect()
            }
            Some(_) => None,
        };
        numbers.ok_or_else(|| self.bad(key, "a list of whole numbers"))
    }

    /// Returns a number of a GGUF file for each layer; `None` if the key is not there.
    pub(crate) fn layered_floats(&self, key: &str, layers: usize) -> Result<Option<&'a [f32]>, FamilyError> {
        match self.find(key) {
            None => Ok(None),
            Some(Found::Gguf(GgufValue::Array(Array::F32(numbers)))) if numbers.len() == layers => {
                Ok(Some(numbers))
            }
            Some(_) => Err(self.bad(key, "a number for each layer")),
        }
    }

    /// Reads a list of whole numbers, some of which may be missing; one entry where the key holds no list.
    pub(crate) fn maybe_sizes(&self, key: &str) -> Result<Vec<Option<usize>>, FamilyError> {
        let values = match self.find(key) {
            Some(Found::Json(Value::Array(values))) if values.len() <= MAX_NUMBERS => values,
            _ => return Ok(vec![self.maybe_size(key)?]),
        };
        let size = |value: &Value| match value {
            Value::Null => Some(None),
            value => value.as_u64().filter(|number| *number <= MAX_SIZE).map(|number| Some(number as usize)),
        };
        let sizes = values.iter().map(size).collect::<Option<Vec<_>>>();
        sizes.ok_or_else(|| self.bad(key, "a list of whole numbers up to 2^30"))
    }

    /// Returns a whole number for each layer: files hold one for all, or a list.
    pub(crate) fn layered(&self, key: &str, layers: usize) -> Result<Option<Vec<usize>>, FamilyError> {
        let numbers: Vec<Option<i64>> = match (self.find(key), &self.source) {
            (Some(Found::Json(Value::Array(values))), _) => values.iter().map(Value::as_i64).collect(),
            (Some(Found::Gguf(GgufValue::Array(_))), Source::Gguf { metadata, architecture }) => {
                let numbers = metadata.i64s(&format!("{architecture}.{key}")).unwrap_or_default();
                numbers.into_iter().map(Some).collect()
            }
            _ => return Ok(self.maybe_size(key)?.map(|number| vec![number; layers])),
        };
        let number =
            |number: Option<i64>| usize::try_from(number?).ok().filter(|number| *number as u64 <= MAX_SIZE);
        let numbers: Option<Vec<usize>> = numbers.into_iter().map(number).collect();
        match numbers.filter(|numbers| numbers.len() >= layers) {
            Some(mut numbers) => {
                numbers.truncate(layers);
                Ok(Some(numbers))
            }
            None => Err(self.bad(key, "a whole number, or one for each layer")),
        }
    }

    /// Returns a list of texts.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, FamilyError> {
        let texts = match self.find(key) {
            None => return Ok(None),
            Some(Found::Json(Value::Array(values))) => values.iter().map(Value::as_str).collect(),
            Some(_) => None,
        };
        match texts {
            Some(texts) => Ok(Some(texts)),
            None => Err(self.bad(key, "a list of texts")),
        }
    }

    /// Returns a truth value of a GGUF file for each layer, of which the file may have some more; `None` if the key is not
    /// there, or holds no list.
    pub(crate) fn layered_flags(&self, key: &str, layers: usize) -> Result<Option<Vec<bool>>, FamilyError> {
        match self.find(key) {
            Some(Found::Gguf(GgufValue::Array(Array::Bool(flags)))) if flags.len() >= layers => {
                Ok(Some(flags.iter().copied().take(layers).collect()))
            }
            Some(Found::Gguf(GgufValue::Array(_))) => Err(self.bad(key, "a truth value for each layer")),
            _ => Ok(None),
        }
    }

    /// Returns a level below this one, which must be finished as well.
    pub(crate) fn below(&self, key: &str) -> Result<Option<Keys<'a>>, FamilyError> {
        match self.find(key) {
            None => Ok(None),
            Some(Found::Json(Value::Object(object))) => {
                let prefix = format!("{}{key}.", self.prefix);
                Ok(Some(Self::new(self.family, Source::Config(object), prefix)))
            }
            Some(_) => Err(self.bad(key, "an object")),
        }
    }

    /// Accepts a key only at the value that changes nothing, as it is shown.
    pub(crate) fn only(&self, key: &str, neutral: &str) -> Result<(), FamilyError> {
        match self.shown(key) {
            Some(value) if value != neutral => Err(self.unsupported(key, neutral)),
            _ => Ok(()),
        }
    }

    /// Tells whether a key says something.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Notes that a key has no effect here.
    pub(crate) fn skip(&self, key: &str) {
        self.read.borrow_mut().insert(key.to_owned());
    }

    /// Refuses the first key that was neither read nor is known to change nothing. A key at `null` says nothing.
    pub(crate) fn finish(&self) -> Result<(), FamilyError> {
        let read = self.read.borrow();
        let unread = |key: &str| !read.contains(key);
        let unknown = match &self.source {
            Source::Config(object) => object
                .iter()
                .filter(|(key, value)| !value.is_null() && !is_off(key, value))
                .map(|(key, _)| key.as_str())
                .find(|key| unread(key) && !WITHOUT_EFFECT.contains(key)),
            Source::Gguf { metadata, architecture } => metadata.keys().find(|key| {
                let own = key.strip_prefix(architecture).and_then(|rest| rest.strip_prefix('.'));
                match own {
                    Some(own) => unread(own),
                    None => !OTHER_PREFIXES.iter().any(|prefix| key.starts_with(prefix)),
                }
            }),
        };
        match unknown {
            Some(key) => {
                let key = match &self.source {
                    Source::Config(_) => format!("{}{key}", self.prefix),
                    Source::Gguf { .. } => key.to_owned(),
                };
                Err(FamilyError::UnknownKey { key, family: self.family })
            }
            None => Ok(()),
        }
    }

    pub(crate) fn missing(&self, key: &str) -> FamilyError {
        FamilyError::MissingKey { key: format!("{}{key}", self.prefix), family: self.family }
    }

    /// The error for a value that was read elsewhere.
    pub(crate) fn bad_at(&self, key: &str, value: &str, expected: &str) -> FamilyError {
        FamilyError::BadValue { key: key.to_owned(), value: value.to_owned(), expected: expected.to_owned() }
    }

    pub(crate) fn bad(&self, key: &str, expected: &str) -> FamilyError {
        let is_text = self.is_text(key);
        let value = self.shown(key).map(|value| if is_text { format!("{value:?}") } else { value });
        let value = value.unwrap_or_else(|| "missing".to_owned());
        FamilyError::BadValue { key: format!("{}{key}", self.prefix), value, expected: expected.to_owned() }
    }

    pub(crate) fn unsupported(&self, key: &str, supported: &str) -> FamilyError {
        let value = self.shown(key).unwrap_or_else(|| "missing".to_owned());
        FamilyError::Unsupported {
            key: format!("{}{key}", self.prefix),
            value,
            supported: supported.to_owned(),
        }
    }

    /// Returns a value as an error shows it, cut to a line.
    fn shown(&self, key: &str) -> Option<String> {
        let value = match self.find(key)? {
            Found::Json(Value::String(text)) => text.clone(),
            Found::Json(value) => value.to_string(),
            Found::Gguf(GgufValue::String(text)) => text.clone(),
            Found::Gguf(GgufValue::Bool(flag)) => flag.to_string(),
            Found::Gguf(value) => match value.as_f64() {
                Some(number) => number.to_string(),
                None => format!("{value:?}"),
            },
        };
        Some(value.chars().take(80).collect())
    }

    fn find(&self, key: &str) -> Option<Found<'a>> {
        self.skip(key);
        match &self.source {
            Source::Config(object) => object.get(key).filter(|value| !value.is_null()).map(Found::Json),
            Source::Gguf { metadata, architecture } => {
                metadata.get(&format!("{architecture}.{key}")).map(Found::Gguf)
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Found<'a> {
    Json(&'a Value),
    Gguf(&'a GgufValue),
}
