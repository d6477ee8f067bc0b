//! Tokenizers of Mistral's own format, `tekken.json`.
//!
//! Source: `Tekkenizer` of <https://github.com/mistralai/mistral-common>. Checked against its 1.13.1 with tiny
//! files of each version (`tests/it/tekken.rs`) and with the real one that it comes with (`tests/it/llama_cpp.rs`).

use std::{collections::HashMap, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use tokenizers::{
    AddedToken, SplitDelimiterBehavior, Tokenizer,
    models::bpe::{BPE, Vocab},
    pre_tokenizers::{
        PreTokenizerWrapper,
        byte_level::ByteLevel,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use super::{Error, frame, spelling::letters};

/// What the file is called.
pub(super) const NAME: &str = "tekken.json";

/// Whether a folder's tokenizer is of this format: where there is a `tokenizer.json`, that counts.
pub(super) fn counts(folder: &Path) -> bool {
    !folder.join("tokenizer.json").exists() && folder.join(NAME).exists()
}

/// Parts of the file; whatever else it says is of images and sound.
#[derive(Deserialize)]
struct File {
    config: Config,
    vocab: Vec<Entry>,
    special_tokens: Option<Vec<Special>>,
}

#[derive(Deserialize)]
struct Config {
    /// Cuts a text into words.
    pattern: String,
    /// How many tokens the model has, of more that the file may list.
    default_vocab_size: usize,
    /// How many of them are special, from id 0 on.
    default_num_special_tokens: usize,
}

#[derive(Deserialize)]
struct Entry {
    /// Its place among the tokens that are not special.
    rank: usize,
    /// Base64.
    token_bytes: String,
}

#[derive(Deserialize)]
struct Special {
    /// Its id.
    rank: usize,
    token_str: String,
    #[serde(default = "yes")]
    is_control: bool,
}

fn yes() -> bool {
    true
}

/// What older files leave unsaid: the special tokens from id 0 on.
const SPECIAL: [&str; 20] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
];

/// What other files name such tokens by.
pub(super) const NAMED: [(&str, &str); 4] =
    [("bos_token", "<s>"), ("eos_token", "</s>"), ("pad_token", "<pad>"), ("unk_token", "<unk>")];

/// Returns the number in the `version` of a file, `v13`.
pub(super) fn version(text: &str) -> Option<u32> {
    #[derive(Deserialize)]
    struct Versioned {
        config: Version,
    }
    #[derive(Deserialize)]
    struct Version {
        version: String,
    }
    let file: Versioned = serde_json::from_str(text).ok()?;
    file.config.version.strip_prefix('v')?.parse().ok()
}

/// The most special tokens that are believed: real files have a thousand.
const MAX_SPECIAL: usize = 1 << 16;

/// The longest token that is looked at for merges. Real ones have tens of bytes; the work grows with the square.
const MAX_MERGED_BYTES: usize = 256;

/// How many pairs the tokens come of on average at most: in real vocabularies it is two.
const MAX_PAIRS: usize = 32;

/// Builds the tokenizer that a `tekken.json` describes.
pub(super) fn build(name: &str, bytes: &[u8]) -> Result<Tokenizer, Error> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| corrupt(name, error))?;
    let special = special_tokens(&file).map_err(|reason| corrupt(name, reason))?;
    let words = words(&file, special.len()).map_err(|reason| corrupt(name, reason))?;
    let tokenizer = || -> tokenizers::Result<Tokenizer> {
        let model = model(&special, &words)?;
        let mut tokenizer = Tokenizer::new(model);
        let pattern = SplitPattern::Regex(file.config.pattern.clone());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
        let to_letters = ByteLevel::new(false, false, false);
        tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
            PreTokenizerWrapper::Split(split),
            PreTokenizerWrapper::ByteLevel(to_letters),
        ])));
        tokenizer.with_decoder(Some(to_letters));
        let added = special.iter().map(|(text, is_control)| AddedToken::from(text.as_str(), *is_control));
        tokenizer.add_tokens(added.map(|token| token.normalized(false)))?;
        Ok(tokenizer)
    };
    let mut tokenizer = tokenizer().map_err(|error| corrupt(name, error))?;
    if let Some(id) = tokenizer.token_to_id("<s>") {
        tokenizer.with_post_processor(Some(frame::template(
            &["bos", "$A"],
            &["bos", "$A", "$B"],
            &[("bos", (id, "<s>"))],
        )?));
    }
    Ok(tokenizer)
}

fn corrupt(name: &str, reason: impl ToString) -> Error {
    Error::Corrupt { file: name.to_owned(), reason: reason.to_string() }
}

/// Returns the special tokens by id, and whether they are control tokens. Ids without a token get one that nobody uses.
fn special_tokens(file: &File) -> Result<Vec<(String, bool)>, String> {
    let count = file.config.default_num_special_tokens;
    if count > MAX_SPECIAL {
        return Err(format!("it counts {count} special tokens, and {MAX_SPECIAL} are the most"));
    }
    let mut found: Vec<Option<(String, bool)>> = vec![None; count];
    let mut put = |id: usize, text: &str, is_control: bool| match found.get_mut(id) {
        Some(place @ None) => {
            *place = Some((text.to_owned(), is_control));
            Ok(())
        }
        _ => Err(format!("special token {id} is there twice, or is one of more than {count}")),
    };
    match &file.special_tokens {
        Some(tokens) => {
            tokens.iter().try_for_each(|token| put(token.rank, &token.token_str, token.is_control))
        }
        None => SPECIAL.iter().enumerate().try_for_each(|(id, text)| put(id, text, true)),
    }?;
    let named = found.into_iter().enumerate();
    Ok(named.map(|(id, token)| token.unwrap_or_else(|| (format!("<SPECIAL_{id}>"), true))).collect())
}

/// Returns the bytes of all other tokens in the order of their ids.
fn words(file: &File, special: usize) -> Result<Vec<Vec<u8>>, String> {
    let size = file.config.default_vocab_size;
    let count = size.checked_sub(special).filter(|count| *count <= file.vocab.len());
    let count = count.ok_or_else(|| {
        format!("it lists {} tokens beside {special} special ones and counts {size}", file.vocab.len())
    })?;
    let word = |(rank, entry): (usize, &Entry)| match BASE64_STANDARD.decode(&entry.token_bytes) {
        Ok(bytes) if entry.rank == rank && !bytes.is_empty() => Ok(bytes),
        Ok(_) => Err(format!("token {} stands at place {rank}, or is empty", entry.rank)),
        Err(error) => Err(format!("the bytes of token {rank}: {error}")),
    };
    file.vocab.iter().take(count).enumerate().map(word).collect()
}

/// Makes the model: pairs are merged in the order of the tokens that they become, and words that are tokens are taken
/// whole.
fn model(special: &[(String, bool)], words: &[Vec<u8>]) -> tokenizers::Result<BPE> {
    let letters = letters();
    let spell = |bytes: &[u8]| bytes.iter().map(|byte| letters[usize::from(*byte)]).collect::<String>();
    let ranks: HashMap<&[u8], usize> = words.iter().map(Vec::as_slice).zip(0..).collect();
    if ranks.len() != words.len() {
        return Err("two of its tokens have the same bytes".into());
    }
    let mut merges = Vec::new();
    for word in words.iter().filter(|word| word.len() <= MAX_MERGED_BYTES) {
        let parts = (1..word.len()).map(|at| word.split_at(at));
        let mut known: Vec<_> =
            parts.filter_map(|(l, r)| Some((*ranks.get(l)?, *ranks.get(r)?, l, r))).collect();
        known.sort_unstable();
        merges.extend(known.into_iter().map(|(_, _, left, right)| (spell(left), spell(right))));
        if merges.len() > words.len().saturating_mul(MAX_PAIRS) {
            return Err("its tokens come of too many pairs of others".into());
        }
    }
    let texts = special.iter().map(|(text, _)| text.clone()).chain(words.iter().map(|word| spell(word)));
    let ids: Vocab = texts.zip(0..).collect();
    if ids.len() != special.len() + words.len() {
        return Err("two of its tokens have the same text".into());
    }
    BPE::builder().vocab_and_merges(ids, merges).ignore_merges(true).build()
}
