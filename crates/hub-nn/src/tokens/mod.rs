//! Text to token ids and back.
//!
//! A [`Tokenizer`] comes from a `tokenizer.json` or a `tekken.json`, or is rebuilt from the metadata of a GGUF file; all
//! are the same type and answer alike. A [`TextStream`] turns the tokens of a running answer into text.
//! [`SpecialTokens`] says which tokens the model's authors gave a meaning.

mod error;
mod frame;
mod gguf;
mod special;
mod spelling;
mod stop;
mod stream;
mod tekken;

use std::{
    collections::HashSet,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use serde::de::IgnoredAny;
use serde_json::Value;

use self::spelling::Pieces;
pub use self::{
    error::Error,
    gguf::Described,
    special::SpecialTokens,
    stream::{Piece, TextStream},
};
use crate::{MAX_VOCABULARY, read_side_file, weights::Metadata};

/// The largest id that is believed: no vocabulary comes near it, and a table of all ids is kept.
const MAX_ID: u32 = 1 << 24;

/// Turns text into token ids and back. Clones share the vocabulary.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    tokenizer: tokenizers::Tokenizer,
    pieces: Pieces,
    special: HashSet<u32>,
}

/// Whether the tokens that frame a text (beginning, end) are added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddSpecial {
    /// They are added, as the tokenizer's authors meant it.
    Yes,
    /// The text carries them already, or should not have them.
    No,
}

/// Whether special tokens are left out of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipSpecial {
    /// They are left out.
    Yes,
    /// They are spelled out.
    No,
}

/// The tokens of a text and which part of it each belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Typed {
    /// The token ids.
    pub ids: Vec<u32>,
    /// The token types, as many: 0 for the first text and, in models that tell them apart, 1 for the second.
    pub types: Vec<u32>,
}

impl Tokenizer {
    /// Opens the tokenizer in a model's folder: `tokenizer.json`, or else Mistral's `tekken.json`.
    ///
    /// # Errors
    /// Those of [`Tokenizer::open`] and [`Tokenizer::from_tekken`].
    pub fn from_folder(folder: &Path) -> Result<Self, Error> {
        if !tekken::counts(folder) {
            return Self::open(&folder.join("tokenizer.json"));
        }
        let tekken = folder.join(tekken::NAME);
        let bytes = read_side_file(&tekken, MAX_VOCABULARY)
            .map_err(|source| Error::Read { path: tekken.clone(), source })?;
        let name = tekken.display().to_string();
        Self::new(&name, || tekken::build(&name, &bytes))
    }

    /// Opens a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Read`], and those of [`Tokenizer::from_json`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bytes = read_side_file(path, MAX_VOCABULARY).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::NotFound { path: path.to_owned() },
            _ => Error::Read { path: path.to_owned(), source },
        })?;
        Self::named_from_json(&path.display().to_string(), &bytes)
    }

    /// Reads the text of a `tokenizer.json`. Its settings for padding and truncation are ignored.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the library does not understand it.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        Self::named_from_json("tokenizer.json", bytes)
    }

    /// Reads the text of a `tekken.json`, the format of Mistral's own programs.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is none, or contradicts itself.
    pub fn from_tekken(bytes: &[u8]) -> Result<Self, Error> {
        Self::new(tekken::NAME, || tekken::build(tekken::NAME, bytes))
    }

    /// Rebuilds the tokenizer that a GGUF file describes in its metadata.
    ///
    /// # Errors
    /// [`Error::MissingKey`], [`Error::UnknownModel`] or [`Error::UnknownPreTokenizer`] if it describes none that is
    /// known, [`Error::Corrupt`] if what it says does not fit together.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, Error> {
        Self::new("the tokenizer of the GGUF file", || gguf::build(metadata))
    }

    /// Returns the metadata by which a GGUF file describes this tokenizer, for a model with `vocab_size` rows in its
    /// embedding.
    ///
    /// # Errors
    /// [`Error::Unwritable`] if GGUF files have no name for how it cuts texts. What is returned was read back and tried on
    /// texts of many kinds.
    pub fn to_gguf(&self, special: &SpecialTokens, vocab_size: usize) -> Result<Described, Error> {
        gguf::describe(&self.0.tokenizer, special, vocab_size)
    }

    /// Turns text into tokens. Special tokens that are written out in it are recognised.
    ///
    /// Takes time in proportion to the text, also where it has no spaces.
    ///
    /// # Errors
    /// [`Error::Encode`] if the tokenizer has no token for some of it and none for the unknown.
    pub fn encode(&self, text: &str, special: AddSpecial) -> Result<Vec<u32>, Error> {
        let encoding =
            self.guard(text.len(), |tokenizer| tokenizer.encode_fast(text, special == AddSpecial::Yes))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Returns a number of tokens that a text of so many bytes has at least, without reading it.
    ///
    /// Far from the truth, and enough to refuse what is absurd before it costs memory: a normaliser may make a text
    /// shorter, by a factor of four at most, and no token is longer than the longest.
    pub fn least_tokens(&self, len_bytes: usize) -> usize {
        len_bytes / self.pieces().longest().saturating_mul(4).max(1)
    }

    /// Turns text into tokens with their types, framed as the model expects it.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_types(&self, text: &str) -> Result<Typed, Error> {
        self.guard(text.len(), |tokenizer| tokenizer.encode(text, true)).map(|encoding| Typed::new(&encoding))
    }

    /// Turns two texts into the tokens of a pair, framed as the model expects it.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_pair(&self, first: &str, second: &str) -> Result<Typed, Error> {
        // The fast way of the library loses the types where a tokenizer has no template.
        let encoding =
            self.guard(first.len() + second.len(), |tokenizer| tokenizer.encode((first, second), true))?;
        Ok(Typed::new(&encoding))
    }

    /// Turns tokens into text. Bytes that are no UTF-8 become U+FFFD; ids without a token are left out.
    pub fn decode(&self, ids: &[u32], special: SkipSpecial) -> String {
        let mut bytes = Vec::new();
        for &id in ids {
            if special == SkipSpecial::No || !self.is_special(id) {
                bytes.extend(self.pieces().get(id));
            }
        }
        let spaces =
            bytes.iter().take(self.pieces().leading_spaces()).take_while(|&&byte| byte == b' ').count();
        String::from_utf8_lossy(&bytes[spaces..]).into_owned()
    }

    /// Returns the bytes of a token, which may be part of a character; none for an id without a token.
    ///
    /// They are those that the token has in the middle of a text: a space that starts a word is there.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        self.pieces().get(id).to_vec()
    }

    /// Returns one more than the highest id. Models often have more rows than that.
    pub fn vocab_size(&self) -> usize {
        self.pieces().len()
    }

    /// Returns the id of a token as the vocabulary spells it.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.0.tokenizer.token_to_id(token)
    }

    /// Returns a token as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.0.tokenizer.id_to_token(id)
    }

    /// Iterates over the texts of the tokens that have a meaning for the model and none for the reader.
    pub fn special_texts(&self) -> impl Iterator<Item = String> {
        self.0.special.iter().filter_map(|id| self.token(*id))
    }

    /// Iterates over the texts of the tokens that are recognised in a text before it is cut: the special ones, and
    /// words and marks that the vocabulary's authors added.
    pub fn added_texts(&self) -> impl Iterator<Item = String> {
        self.0.tokenizer.get_added_tokens_decoder().into_values().map(|token| token.content)
    }

    /// Whether a token has a meaning for the model and none for the reader.
    pub fn is_special(&self, id: u32) -> bool {
        self.0.special.contains(&id)
    }

    fn named_from_json(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        let corrupt = |reason: String| Error::Corrupt { file: name.to_owned(), reason };
        // A file that is cut short is the likeliest damage, and the library would panic on it.
        serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| corrupt(error.to_string()))?;
        Self::new(name, || {
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| corrupt(error.to_string()))
        })
    }

    /// Builds a tokenizer. The library panics on some files that contradict themselves; here that is an error.
    fn new(name: &str, build: impl FnOnce() -> Result<tokenizers::Tokenizer, Error>) -> Result<Self, Error> {
        let corrupt = |reason: String| Error::Corrupt { file: name.to_owned(), reason };
        let build = || {
            let mut tokenizer = build()?;
            tokenizer.with_padding(None);
            tokenizer.with_truncation(None).map_err(|error| corrupt(error.to_string()))?;
            let last = tokenizer.get_vocab(true).into_values().max();
            let last = last.ok_or_else(|| corrupt("its vocabulary is empty".to_owned()))?;
            if last >= MAX_ID {
                return Err(corrupt(format!("it has a token with id {last}")));
            }
            let decoder = serde_json::to_value(tokenizer.get_decoder()).unwrap_or(Value::Null);
            let pieces = Pieces::new(&decoder, (0..=last).map(|id| tokenizer.id_to_token(id)));
            let added = tokenizer.get_added_tokens_decoder();
            let special = added.iter().filter(|(_, token)| token.special).map(|(&id, _)| id).collect();
            Ok(Self(Arc::new(Inner { tokenizer, pieces, special })))
        };
        catch_unwind(AssertUnwindSafe(build))
            .unwrap_or_else(|_| Err(corrupt("its vocabulary and its rules contradict each other".to_owned())))
    }

    /// Lets control tokens that a text spells out be read as the text they are. The tokens that frame a text are still
    /// added.
    #[must_use]
    pub fn reading_controls_as_text(self) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.tokenizer.set_encode_special_tokens(true);
        Self(Arc::new(inner))
    }

    /// Encodes a text and a pair, so that files that contradict themselves are known before their first use.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if that fails.
    pub fn check(&self) -> Result<(), Error> {
        let probe = "Xin chào, hub 1";
        let ran = self.encode(probe, AddSpecial::Yes).and_then(|_| self.encode_pair(probe, probe));
        ran.map(drop).map_err(|error| match error {
            Error::Encode { reason, .. } => Error::Corrupt { file: "the tokenizer".to_owned(), reason },
            error => error,
        })
    }

    /// Encodes; a panic of the library on a text of `len_bytes` bytes is an error, too.
    fn guard(
        &self,
        len_bytes: usize,
        encode: impl FnOnce(&tokenizers::Tokenizer) -> tokenizers::Result<tokenizers::Encoding>,
    ) -> Result<tokenizers::Encoding, Error> {
        let refuse = |reason: String| Error::Encode { len_bytes, reason };
        // Encoding changes nothing but a cache of whole words, so a panic leaves nothing half done.
        match catch_unwind(AssertUnwindSafe(|| encode(&self.0.tokenizer))) {
            Ok(result) => result.map_err(|error| refuse(error.to_string())),
            Err(_) => Err(refuse("its vocabulary and its rules contradict each other".to_owned())),
        }
    }

    fn pieces(&self) -> &Pieces {
        &self.0.pieces
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size()).finish_non_exhaustive()
    }
}

impl Typed {
    fn new(encoding: &tokenizers::Encoding) -> Self {
        Self { ids: encoding.get_ids().to_vec(), types: encoding.get_type_ids().to_vec() }
    }
}
