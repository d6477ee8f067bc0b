//! The text half of models that see or hear as well: its configuration lies in `text_config`, its tensors under a prefix.

use hub_nn::{spec::LeftOut, weights::Weights};
use serde_json::{Map, Value};

use super::{
    FamilyError,
    keys::{DefaultValue, Keys},
    lookup,
};

/// Where the tensors of the text half are, the newest way to write them last.
const PREFIXES: &[&str] = &["language_model.model.", "model.language_model.model.", "model.language_model."];

/// Where its head is, if it has one of its own.
const HEADS: &[&str] = &["language_model.lm_head.", "model.language_model.lm_head.", "lm_head."];

/// What the tensors of the other halves begin with.
const OTHERS: &[&str] = &[
    "audio_tower.",
    "model.audio_tower.",
    "model.embed_audio.",
    "model.embed_vision.",
    "model.multi_modal_projector.",
    "model.vision_tower.",
    "model.visual.",
    "multi_modal_projector.",
    "vision_model.",
    "vision_tower.",
    "visual.",
];

/// What the text half is left without in its configuration, by type of model: these files say only what differs from the
/// configuration class of `transformers`.
const DEFAULTS: &[(&str, &[(&str, DefaultValue)])] = &[(
    "gemma3_text",
    &[
        ("head_dim", DefaultValue::Whole(256)),
        ("hidden_size", DefaultValue::Whole(2_304)),
        ("intermediate_size", DefaultValue::Whole(9_216)),
        ("max_position_embeddings", DefaultValue::Whole(131_072)),
        ("num_attention_heads", DefaultValue::Whole(8)),
        ("num_hidden_layers", DefaultValue::Whole(26)),
        ("num_key_value_heads", DefaultValue::Whole(4)),
        ("vocab_size", DefaultValue::Whole(262_208)),
    ],
)];

/// How files name the tensors of a model that reads text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// What stands for `model.`.
    prefix: &'static str,
    /// What stands for `lm_head.`.
    head: &'static str,
    has_others: bool,
}

impl Layout {
    /// As a model that only reads text is written.
    pub(super) const PLAIN: Self = Self { prefix: "model.", head: "lm_head.", has_others: false };

    /// Returns how the tensors of a model that only reads text are named: without a beginning where its head was left
    /// away when it was saved.
    pub(super) fn plain(weights: &Weights) -> Self {
        let is_bare = weights.info("embed_tokens.weight").is_some();
        Self { prefix: if is_bare { "" } else { Self::PLAIN.prefix }, ..Self::PLAIN }
    }

    fn of(weights: &Weights) -> Self {
        let begins = |prefix: &&&str| weights.names().any(|name| name.starts_with(**prefix));
        let find =
            |prefixes: &'static [&'static str], other| prefixes.iter().find(begins).copied().unwrap_or(other);
        Self { prefix: find(PREFIXES, "model."), head: find(HEADS, "lm_head."), has_others: true }
    }

    /// Returns what the files call the tensor that a family names.
    pub(super) fn name(&self, name: &str) -> String {
        match (name.strip_prefix("model."), name.strip_prefix("lm_head.")) {
            (Some(rest), _) => format!("{}{rest}", self.prefix),
            (_, Some(rest)) => format!("{}{rest}", self.head),
            _ => name.to_owned(),
        }
    }

    /// Lists the tensors of the other halves.
    pub(super) fn left_out(&self, weights: &Weights) -> Vec<LeftOut> {
        let is_other = |name: &&str| self.has_others && OTHERS.iter().any(|prefix| name.starts_with(prefix));
        let reason = "belongs to what is not text";
        weights.names().filter(is_other).map(|name| LeftOut { name: name.to_owned(), reason }).collect()
    }
}

/// The configuration of the half that reads text, and how its tensors are named.
pub(super) type TextHalf = (Map<String, Value>, Layout);

/// Returns the configuration of the text half and how its tensors are named; `None` for a model that only reads text.
///
/// # Errors
/// [`FamilyError::BadValue`] if it is said to have one, and that is no configuration.
pub(super) fn half(config: &Map<String, Value>, weights: &Weights) -> Result<Option<TextHalf>, FamilyError> {
    let keys = Keys::config("text", config);
    let mut text = match config.get("text_config") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(text))
            if lookup::name_of(text).is_none() && !config.contains_key("hidden_size") =>
        {
            return Err(keys.missing("text_config.model_type"));
        }
        // An empty one says nothing of a model that says all of itself beside it.
        Some(Value::Object(text)) if lookup::name_of(text).is_none() => return Ok(None),
        Some(Value::Object(text)) => text.clone(),
        Some(_) => return Err(keys.bad("text_config", "an object")),
    };
    let layout = Layout::of(weights);
    text.remove("architectures");
    // The files tell better than two keys that may contradict each other.
    let is_tied = weights.info(&layout.name("lm_head.weight")).is_none();
    if is_tied && text.get("tie_word_embeddings") == Some(&Value::Bool(false)) {
        return Err(keys.bad_at("text_config.tie_word_embeddings", "false", "`lm_head.weight` or `true`"));
    }
    text.insert("tie_word_embeddings".to_owned(), is_tied.into());
    if let Some(quantization) = config.get("quantization_config") {
        text.insert("quantization_config".to_owned(), quantization.clone());
    }
    let model_type = text.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let defaults =
        DEFAULTS.iter().find(|(name, _)| *name == model_type).map_or(&[][..], |(_, defaults)| defaults);
    for (key, value) in defaults {
        text.entry(*key).or_insert_with(|| (*value).into());
    }
    Ok(Some((text, layout)))
}
