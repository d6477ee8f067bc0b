//! What a model's authors say of it: its name, languages, licence and tags.

use std::path::Path;

use hub_nn::{MAX_CONFIGURATION, read_side_file, weights::Metadata};
use serde::{Deserialize, Serialize};

/// What a model's authors say of it; nothing here is checked against the weights.
///
/// Read from the metadata of a GGUF file (`general.*`), or from the head of the `README.md` in a folder, which
/// Hugging Face calls a model card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Card {
    /// What they call it.
    pub name: Option<String>,
    /// The languages it was made for, as codes: `["en", "vi"]`.
    pub languages: Vec<String>,
    /// Its licence: `apache-2.0`.
    pub license: Option<String>,
    /// The models it was made from.
    pub base_models: Vec<String>,
    /// Words they file it under.
    pub tags: Vec<String>,
}

/// The longest card that is read, and the most words of each list that are kept of it.
const MAX_BYTES: usize = 1 << 20;
const MAX_WORDS: usize = 64;
/// The longest word that is kept.
const MAX_CHARS: usize = 128;

/// What a model is good at, and the words that say so, in tags and names.
const SPECIALITIES: &[(&str, &[&str])] = &[
    ("code", &["code", "coder", "coding", "codellama", "starcoder"]),
    ("math", &["math", "maths", "mathematics"]),
    ("reasoning", &["reasoning", "thinking", "reasoner"]),
    ("tools", &["tools", "tool-use", "function-calling"]),
    ("medicine", &["medical", "medicine", "biology", "clinical", "health"]),
    ("law", &["legal", "law"]),
    ("finance", &["finance", "financial"]),
    ("translation", &["translation"]),
    ("roleplay", &["roleplay", "role-play"]),
];

/// The head of a model card.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Head {
    model_name: Option<String>,
    language: Words,
    license: Words,
    license_name: Option<String>,
    base_model: Words,
    pipeline_tag: Option<String>,
    tags: Words,
}

/// One word, or several. People write anything else as well, which then says nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Many(Vec<String>),
    #[default]
    None,
    Other(serde::de::IgnoredAny),
}

impl Card {
    /// Reads the card out of a GGUF file's metadata.
    pub(crate) fn of_gguf(metadata: &Metadata) -> Self {
        let text = |key: &str| metadata.str(key).map(str::to_owned);
        let list = |key: &str| metadata.strings(key).map(<[String]>::to_vec).unwrap_or_default();
        let bases = (0..metadata.u64("general.base_model.count").unwrap_or(0).min(8)).filter_map(|index| {
            let key = |what: &str| format!("general.base_model.{index}.{what}");
            let address = text(&key("repo_url")).or_else(|| text(&key("name")))?;
            Some(address.trim_start_matches("https://huggingface.co/").to_owned())
        });
        Self {
            name: text("general.name"),
            languages: list("general.languages"),
            license: text("general.license"),
            base_models: bases.collect(),
            tags: list("general.tags"),
        }
        .tidy()
    }

    /// Reads the card out of a `README.md`; an empty one if it has no head that can be read.
    pub(crate) fn of_readme(text: &str) -> Self {
        let head = Head::of(text);
        // Licences of one's own are called `other`, and their name stands beside.
        let license = head.license.into_vec().into_iter().next();
        let license = match head.license_name {
            Some(name) if license.as_deref() == Some("other") => Some(name),
            _ => license,
        };
        Self {
            name: head.model_name,
            languages: head.language.into_vec(),
            license,
            base_models: head.base_model.into_vec(),
            tags: head.tags.into_vec(),
        }
        .tidy()
    }

    /// Returns what a `README.md` says the model is for, in Hugging Face's word.
    pub(crate) fn purpose(text: &str) -> Option<String> {
        Head::of(text).pipeline_tag
    }

    /// Returns what the model is good at, by its tags and by its name or the `title` of its files.
    pub(crate) fn specialities(&self, title: &str) -> Vec<&'static str> {
        let name = format!("{} {title}", self.name.as_deref().unwrap_or_default()).to_lowercase();
        let words: Vec<&str> = name.split(|c: char| !c.is_alphanumeric()).collect();
        let is_said = |said: &&str| words.contains(said) || self.tags.iter().any(|tag| tag == said);
        let known = SPECIALITIES.iter().filter(|(_, said)| said.iter().any(&is_said));
        known.map(|(speciality, _)| *speciality).collect()
    }

    /// Bounds what is kept: files are foreign, and the card goes into every list of models.
    fn tidy(mut self) -> Self {
        let short = |text: &mut String| {
            if let Some((at, _)) = text.char_indices().nth(MAX_CHARS) {
                text.truncate(at);
            }
        };
        self.name.iter_mut().chain(self.license.iter_mut()).for_each(short);
        for list in [&mut self.languages, &mut self.base_models, &mut self.tags] {
            list.truncate(MAX_WORDS);
            list.iter_mut().for_each(short);
        }
        for list in [&mut self.languages, &mut self.tags] {
            list.iter_mut().for_each(|word| *word = word.to_lowercase());
        }
        self
    }
}

/// Reads the card in a folder; what cannot be read says nothing.
pub(crate) fn read(folder: &Path) -> String {
    let text = read_side_file(&folder.join("README.md"), MAX_CONFIGURATION).unwrap_or_default();
    String::from_utf8_lossy(&text[..text.len().min(MAX_BYTES)]).into_owned()
}

impl Head {
    /// Reads the head of a card; an empty one if it has none that can be read.
    fn of(text: &str) -> Self {
        let head = text.trim_start_matches('\u{feff}').strip_prefix("---").and_then(|rest| {
            let end = rest.find("\n---")?;
            serde_saphyr::from_str(&rest[..end]).ok()
        });
        head.unwrap_or_default()
    }
}

impl Words {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(word) => vec![word],
            Self::Many(words) => words,
            Self::None | Self::Other(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use hub_nn::weights::{Array, Value};

    use super::*;

    #[test]
    fn a_readme_says_it_in_its_head() {
        let card = Card::of_readme(
            "---\nlanguage:\n- en\n- VI\nlicense: other\nlicense_name: seallm\nbase_model: Qwen/Qwen2.5-7B\n\
             tags: [math, chat]\nwidget:\n- text: x\n---\n# Model\n",
        );
        assert_eq!(card.languages, ["en", "vi"]);
        assert_eq!(card.license.as_deref(), Some("seallm"));
        assert_eq!(card.base_models, ["Qwen/Qwen2.5-7B"]);
        assert_eq!(card.specialities("Some-Coder-7B"), ["code", "math"]);
        assert_eq!(Card::of_readme("---\r\nlanguage: en\r\n---\r\n").languages, ["en"]);
    }

    #[test]
    fn a_head_that_cannot_be_read_says_nothing() {
        for text in ["", "# Model", "---\nlicense: [", "---\n: : :\n---\n", "---\nlanguage: {a: 1}\n---\n"] {
            assert_eq!(Card::of_readme(text), Card::default(), "{text:?}");
        }
        let long = format!("---\nlicense: {}\n---\n", "ă".repeat(10_000));
        assert_eq!(Card::of_readme(&long).license.map(|text| text.chars().count()), Some(MAX_CHARS));
    }

    #[test]
    fn a_gguf_file_says_it_in_its_metadata() {
        let words =
            |list: &[&str]| Value::Array(Array::String(list.iter().map(|w| (*w).to_owned()).collect()));
        let metadata: Metadata = [
            ("general.name", Value::String("Qwen2.5 Math 7B".to_owned())),
            ("general.languages", words(&["en"])),
            ("general.license", Value::String("apache-2.0".to_owned())),
            ("general.base_model.count", Value::U32(1)),
            (
                "general.base_model.0.repo_url",
                Value::String("https://huggingface.co/Qwen/Qwen2.5-7B".to_owned()),
            ),
        ]
        .into_iter()
        .collect();
        let card = Card::of_gguf(&metadata);
        assert_eq!(
            (card.license.as_deref(), card.base_models.as_slice()),
            (Some("apache-2.0"), &["Qwen/Qwen2.5-7B".to_owned()][..])
        );
        assert_eq!(card.specialities(""), ["math"]);
    }
}
