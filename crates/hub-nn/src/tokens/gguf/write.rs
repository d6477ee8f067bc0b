//! Writes a tokenizer as the metadata of a GGUF file.
//!
//! GGUF files name the way a text is cut instead of describing it. Here it is found by trying the ways that are known on
//! texts which tell them apart; what was written is read back and must cut those texts as before.

use std::collections::HashMap;

use serde_json::Value;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, Tokenizer};

use super::{bpe, build, pre, spm};
use crate::{
    tokens::{Error, SpecialTokens, special},
    weights::Metadata,
};

/// Texts that the ways to cut them treat differently: cases, contractions, numbers, spaces and lines, marks, other scripts,
/// composed and decomposed, and what is between them.
const SAMPLES: &[&str] = &[
    "Hello world, it's THEY'LL don't I'VE 3rd HTTPServer camelCase snake_case x86_64",
    "1 12 123 1234 12345678 3.14159 1,000,000 ٣٤٥ ²³",
    "  two   spaces\n\n\nlines \t tabs\r\n  \r\n end   ",
    "Tiếng Việt có dấu: phở bò, đường phố Hà Nội; tiê\u{301}ng Viê\u{323}t",
    "fn main() { let x = vec![1, 2]; } // --> #[derive(Debug)] /* **kwargs */ a/b\\c ./..\n/\n",
    "日本語 テスト 한국어 中文，标点。 русский текст हिन्दी العربية ไทย",
    "emoji 👍🏽 👨‍👩‍👧‍👦 ❤️ ½ ① \u{200b}zero\u{a0}nbsp\u{feff} e\u{301}",
    "\n a\n\nb \n",
    "…—„quotes“ «guillemets» ¿qué? ´`^~ $€£ @user #tag https://example.org/?q=1&x=%20",
];

/// What `tokenizer.ggml.token_type` says.
mod kind {
    pub(super) const NORMAL: i32 = 1;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const CONTROL: i32 = 3;
    pub(super) const USER_DEFINED: i32 = 4;
    pub(super) const UNUSED: i32 = 5;
    pub(super) const BYTE: i32 = 6;
}

/// A tokenizer as a GGUF file describes it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Described {
    /// The metadata.
    pub metadata: Metadata,
    /// A text that becomes other tokens than before. Vocabularies of SentencePiece's kind have scores instead of merges
    /// there, which is the same where the merges were made of such scores, and not where they were learned.
    pub differs: Option<&'static str>,
}

/// Returns the metadata that describe a tokenizer of a model with `vocab_size` rows in its embedding.
///
/// # Errors
/// [`Error::Unwritable`] for a tokenizer of a kind that GGUF files do not name.
pub(in crate::tokens) fn describe(
    tokenizer: &Tokenizer,
    special: &SpecialTokens,
    vocab_size: usize,
) -> Result<Described, Error> {
    let json = serde_json::to_value(tokenizer).map_err(|error| unwritable(error.to_string()))?;
    let model = &json["model"];
    if model["type"] != "BPE" {
        return Err(unwritable(format!("it is of the kind {}, and only BPE is written", model["type"])));
    }
    let mut metadata = Metadata::default();
    let merges = merges(&model["merges"]);
    let is_text = model["byte_fallback"] == true;
    let vocab = vocabulary(tokenizer, &json, vocab_size, is_text)?;
    metadata.insert("tokenizer.ggml.model", if is_text { "llama" } else { "gpt2" });
    metadata.insert("tokenizer.ggml.pre", "default");
    metadata.insert("tokenizer.ggml.tokens", vocab.texts);
    metadata.insert("tokenizer.ggml.token_type", vocab.kinds);
    for (name, key) in special::keys() {
        if let Some(id) = special.get(name).and_then(|text| tokenizer.token_to_id(text)) {
            metadata.insert(key, id);
        }
    }
    if let Some(unknown) = model["unk_token"].as_str().and_then(|text| tokenizer.token_to_id(text)) {
        metadata.insert("tokenizer.ggml.unknown_token_id", unknown);
    }
    let frame = tokenizer.encode_fast("a", true).map_err(|error| unwritable(error.to_string()))?;
    let named = |key: &str| metadata.u64(&format!("tokenizer.ggml.{key}_token_id"));
    let is_id = |id: Option<&u32>, key: &str| id.is_some() && id.map(|id| u64::from(*id)) == named(key);
    let adds_bos = frame.len() > 1 && is_id(frame.get_ids().first(), "bos");
    let adds_eos = frame.len() > 1 && is_id(frame.get_ids().last(), "eos");
    metadata.insert("tokenizer.ggml.add_bos_token", adds_bos);
    metadata.insert("tokenizer.ggml.add_eos_token", adds_eos);
    if let Some(template) = &special.chat_template {
        metadata.insert("tokenizer.chat_template", template.as_str());
    }
    if is_text {
        let texts = metadata.strings("tokenizer.ggml.tokens").unwrap_or_default();
        let scores = scores(&merges, texts);
        metadata.insert("tokenizer.ggml.scores", scores);
        metadata.insert("tokenizer.ggml.add_space_prefix", has_space_prefix(tokenizer));
        let differs = first_difference(tokenizer, &metadata)?;
        return Ok(Described { metadata, differs });
    }
    let pairs: Vec<String> = merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
    metadata.insert("tokenizer.ggml.merges", pairs);
    let mut reason = "it cuts texts in a way that has no name in GGUF files".to_owned();
    for name in pre::names_of_bytes().filter(|name| cuts_alike(tokenizer, name)) {
        metadata.insert("tokenizer.ggml.pre", name);
        match first_difference(tokenizer, &metadata)? {
            None => return Ok(Described { metadata, differs: None }),
            Some(sample) => reason = format!("its metadata would turn {sample:?} into other tokens"),
        }
    }
    Err(unwritable(reason))
}

fn unwritable(reason: String) -> Error {
    Error::Unwritable { reason }
}

/// What each id stands for.
struct Vocabulary {
    texts: Vec<String>,
    kinds: Vec<i32>,
}

fn vocabulary(
    tokenizer: &Tokenizer,
    json: &Value,
    vocab_size: usize,
    is_text: bool,
) -> Result<Vocabulary, Error> {
    let texts = (0..vocab_size).map(|id| format!("[PAD{id}]")).collect();
    let mut vocabulary = Vocabulary { texts, kinds: vec![kind::UNUSED; vocab_size] };
    let mut set = |text: &str, id: usize, kind: i32| match vocabulary.texts.get_mut(id) {
        Some(place) => {
            text.clone_into(place);
            vocabulary.kinds[id] = kind;
            Ok(())
        }
        None => Err(unwritable(format!("token {id} has no row in an embedding of {vocab_size}"))),
    };
    let unknown = json["model"]["unk_token"].as_str();
    for (text, id) in tokenizer.get_vocab(false) {
        let is_byte = is_text && text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
        let kind = match () {
            () if unknown == Some(&text) => kind::UNKNOWN,
            () if is_byte => kind::BYTE,
            () => kind::NORMAL,
        };
        set(&text, id as usize, kind)?;
    }
    for (id, added) in tokenizer.get_added_tokens_decoder() {
        let is_unknown = unknown == Some(added.content.as_str());
        let kind = match () {
            () if is_unknown => kind::UNKNOWN,
            () if added.special => kind::CONTROL,
            () => kind::USER_DEFINED,
        };
        set(&added.content, id as usize, kind)?;
    }
    Ok(vocabulary)
}

/// Reads the merges, which newer files write as pairs and older ones with a space between.
fn merges(merges: &Value) -> Vec<(&str, &str)> {
    let pairs = merges.as_array().map(Vec::as_slice).unwrap_or_default();
    pairs
        .iter()
        .filter_map(|merge| match merge {
            Value::Array(pair) => Some((pair.first()?.as_str()?, pair.get(1)?.as_str()?)),
            merge => merge.as_str()?.split_once(' '),
        })
        .collect()
}

/// Scores that make the same merges in the same order: SentencePiece always makes the pair whose token scores highest.
fn scores(merges: &[(&str, &str)], texts: &[String]) -> Vec<f32> {
    let mut ranks = HashMap::new();
    for (rank, (left, right)) in merges.iter().enumerate() {
        ranks.entry(format!("{left}{right}")).or_insert(rank);
    }
    let score = |text: &String| -(ranks.get(text).copied().unwrap_or(merges.len()) as f32);
    texts.iter().map(score).collect()
}

/// Whether a text is read as if a space were before it.
fn has_space_prefix(tokenizer: &Tokenizer) -> bool {
    let first = tokenizer.encode_fast("a", false);
    first.is_ok_and(|tokens| tokens.get_tokens().first().is_some_and(|token| token.starts_with(spm::SPACE)))
}

/// Whether a named way cuts the samples as a tokenizer does.
fn cuts_alike(tokenizer: &Tokenizer, name: &str) -> bool {
    let Ok(named) = bpe::cutter(name) else { return false };
    let Some(own) = tokenizer.get_pre_tokenizer() else { return false };
    let cut = |cutter: &dyn Fn(&mut PreTokenizedString) -> tokenizers::Result<()>, text: &str| {
        let mut text = PreTokenizedString::from(text);
        cutter(&mut text).ok()?;
        let parts = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
        Some(parts.into_iter().map(|(part, ..)| part.to_owned()).collect::<Vec<_>>())
    };
    SAMPLES.iter().all(|sample| {
        let ours = cut(&|text| own.pre_tokenize(text), sample);
        ours.is_some() && ours == cut(&|text| named.pre_tokenize(text), sample)
    })
}

/// Builds what was written, and returns the first sample that becomes other tokens.
fn first_difference(tokenizer: &Tokenizer, metadata: &Metadata) -> Result<Option<&'static str>, Error> {
    let written = build(metadata)?;
    let ids = |tokenizer: &Tokenizer, sample: &str| {
        tokenizer.encode_fast(sample, true).map(|tokens| tokens.get_ids().to_vec()).ok()
    };
    Ok(SAMPLES.iter().find(|sample| ids(tokenizer, sample) != ids(&written, sample)).copied())
}
