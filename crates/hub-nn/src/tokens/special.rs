use std::{collections::BTreeMap, io, path::Path};

use serde_json::{Map, Value};

use super::{Error, Tokenizer, tekken};
use crate::{MAX_CONFIGURATION, read_side_file, weights::Metadata};

/// Which tokens the authors of a model gave a meaning, and how a conversation is written with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpecialTokens {
    /// The text of each token by what the files call it: `bos_token`, `eos_token`, `pad_token`, …
    tokens: BTreeMap<String, String>,
    /// Further control tokens that end an answer, where the files do not name them.
    ends: Vec<String>,
    /// Whether a text is to begin with the first of them, where the files say so.
    pub add_bos: Option<bool>,
    /// Whether a text is to end with the last of them, where the files say so.
    pub add_eos: Option<bool>,
    /// The Jinja source that turns a conversation into text.
    pub chat_template: Option<String>,
    /// The version of Mistral's form of conversation, which a `tekken.json` names instead: 3, 7, 11, 13.
    pub conversation_version: Option<u32>,
}

/// What Hugging Face's files call a token, and under which key GGUF files hold its id.
static KEYS: &[(&str, &str)] = &[
    ("bos_token", "tokenizer.ggml.bos_token_id"),
    ("eos_token", "tokenizer.ggml.eos_token_id"),
    ("unk_token", "tokenizer.ggml.unknown_token_id"),
    // The key is misspelled in the format.
    ("sep_token", "tokenizer.ggml.seperator_token_id"),
    ("pad_token", "tokenizer.ggml.padding_token_id"),
    ("cls_token", "tokenizer.ggml.cls_token_id"),
    ("mask_token", "tokenizer.ggml.mask_token_id"),
    ("eot_token", "tokenizer.ggml.eot_token_id"),
    ("eom_token", "tokenizer.ggml.eom_token_id"),
];

/// Iterates over what Hugging Face's files call tokens, and the keys of GGUF files for them.
pub(super) fn keys() -> impl Iterator<Item = (&'static str, &'static str)> {
    KEYS.iter().copied()
}

/// Tokens that end a turn in GGUF files that do not name one: older converters wrote only `eos_token_id`, which in
/// chat models is often the end of a document. The list is llama.cpp's (`llama-vocab.cpp`, "find EOT token").
static TURN_ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];

/// Tokens that end a message which goes to a tool and not to the reader, where files do not name one.
static MESSAGE_ENDS: &[&str] = &["<|eom_id|>"];

/// Control tokens that end an answer wherever a GGUF file has them: such files name one or two, and models have more.
/// The list is llama.cpp's (`llama-vocab.cpp`, "tokens that cause end-of-generation").
static ANSWER_ENDS: &[&str] = &[
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "</s>",
    "[EOS]",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "[e~[",
];

/// The kind of a control token in GGUF files.
const CONTROL: i64 = 3;

impl SpecialTokens {
    /// Reads `tokenizer_config.json`, `special_tokens_map.json`, `tekken.json` and the template files of a model's
    /// folder, those of them that are there. The first wins where two say different things, but a template file wins
    /// over all.
    ///
    /// Of several templates the one called `default` counts: those beside it are for calls of tools and the like. A
    /// `tekken.json` beside a `tokenizer.json` says nothing: folders of models that hold no conversations have both.
    ///
    /// # Errors
    /// [`Error::Read`] and [`Error::Corrupt`].
    pub fn from_folder(folder: &Path) -> Result<Self, Error> {
        let config = read_object(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
        let map = read_object(&folder.join("special_tokens_map.json"))?.unwrap_or_default();
        let tekken = match tekken::counts(folder) {
            true => read_text(&folder.join(tekken::NAME))?,
            false => None,
        };
        let mut tokens: BTreeMap<_, _> = match &tekken {
            Some(_) => {
                tekken::NAMED.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
            }
            None => BTreeMap::new(),
        };
        for (key, value) in map.iter().chain(&config) {
            if key.ends_with("_token")
                && let Some(text) = token_text(value)
            {
                tokens.insert(key.clone(), text.to_owned());
            }
        }
        let chat_template = match read_template(folder)? {
            Some(template) => Some(template),
            None => match config.get("chat_template").and_then(choose_template) {
                Some(template) => Some(template),
                None => read_object(&folder.join("chat_template.json"))?
                    .and_then(|object| object.get("chat_template").and_then(choose_template)),
            },
        };
        let flag = |key: &str| config.get(key).and_then(Value::as_bool);
        Ok(Self {
            tokens,
            ends: Vec::new(),
            add_bos: flag("add_bos_token"),
            add_eos: flag("add_eos_token"),
            chat_template,
            conversation_version: tekken.as_deref().and_then(tekken::version),
        })
    }

    /// Reads the metadata of a GGUF file.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if an id names no token.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, Error> {
        let texts = metadata.strings("tokenizer.ggml.tokens").unwrap_or_default();
        let mut tokens = BTreeMap::new();
        for &(name, key) in KEYS {
            let Some(id) = metadata.u64(key) else { continue };
            let text = usize::try_from(id).ok().and_then(|id| texts.get(id));
            let text = text.ok_or_else(|| Error::Corrupt {
                file: "the tokenizer of the GGUF file".to_owned(),
                reason: format!("`{key}` is {id} and there are {} tokens", texts.len()),
            })?;
            tokens.insert(name.to_owned(), text.clone());
        }
        for (name, texts_of) in [("eot_token", TURN_ENDS), ("eom_token", MESSAGE_ENDS)] {
            if !tokens.contains_key(name)
                && let Some(end) = texts_of.iter().find(|&&end| texts.iter().any(|text| text == end))
            {
                tokens.insert(name.to_owned(), (*end).to_owned());
            }
        }
        let kinds = metadata.i64s("tokenizer.ggml.token_type").unwrap_or_default();
        let known = [TURN_ENDS, MESSAGE_ENDS, ANSWER_ENDS].concat();
        let controls = texts.iter().zip(kinds).filter(|(_, kind)| *kind == CONTROL);
        let ends = controls.filter(|(text, _)| known.contains(&text.as_str()));
        Ok(Self {
            tokens,
            ends: ends.map(|(text, _)| text.clone()).collect(),
            add_bos: metadata.bool("tokenizer.ggml.add_bos_token"),
            add_eos: metadata.bool("tokenizer.ggml.add_eos_token"),
            chat_template: metadata.str("tokenizer.chat_template").map(str::to_owned),
            conversation_version: None,
        })
    }

    /// Returns the text of a token by its name, `bos_token`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.tokens.get(name).map(String::as_str)
    }

    /// Iterates over names and texts, `("bos_token", "<s>")`, as chat templates see them.
    pub fn named(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tokens.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// Returns the tokens that end an answer, in order: the end of a text, of a turn, of a message.
    pub fn end_tokens(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let named = ["eos_token", "eot_token", "eom_token"].iter().filter_map(|name| self.get(name));
        let texts = named.chain(self.ends.iter().map(String::as_str));
        let mut ends: Vec<u32> = texts.filter_map(|text| tokenizer.id_of(text)).collect();
        ends.sort_unstable();
        ends.dedup();
        ends
    }
}

/// Reads a token that is written as a text, or as an object with a text in it.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// Reads the template that lies in a file of its own.
fn read_template(folder: &Path) -> Result<Option<String>, Error> {
    match read_text(&folder.join("chat_template.jinja"))? {
        Some(template) => Ok(Some(template)),
        None => read_text(&folder.join("additional_chat_templates/default.jinja")),
    }
}

/// Reads a template, or of several named ones the one called `default`.
fn choose_template(value: &Value) -> Option<String> {
    if let Some(template) = value.as_str().or_else(|| value.get("default")?.as_str()) {
        return Some(template.to_owned());
    }
    let named = value.as_array()?;
    let default = named.iter().find(|one| one["name"] == "default").or_else(|| named.first())?;
    default["template"].as_str().map(str::to_owned)
}

fn read_object(path: &Path) -> Result<Option<Map<String, Value>>, Error> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| Error::Corrupt { file: path.display().to_string(), reason: error.to_string() })
}

fn read_text(path: &Path) -> Result<Option<String>, Error> {
    match read_side_file(path, MAX_CONFIGURATION) {
        Ok(text) => String::from_utf8(text)
            .map(Some)
            .map_err(|error| Error::Corrupt { file: path.display().to_string(), reason: error.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}
