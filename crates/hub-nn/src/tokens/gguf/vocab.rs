use tokenizers::AddedToken;

use super::corrupt;
use crate::{
    tokens::Error,
    weights::{Array, Metadata, Value},
};

/// The tokens of a GGUF file with what it says about each.
pub(super) struct Vocab {
    pub(super) tokens: Vec<Token>,
}

/// One token; its id is its place.
pub(super) struct Token {
    pub(super) text: String,
    pub(super) kind: TokenKind,
    /// How likely it is, as a logarithm; 0 where the file does not say.
    pub(super) score: f32,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Vocab {
    pub(super) fn read(metadata: &Metadata) -> Result<Self, Error> {
        let key = "tokenizer.ggml.tokens";
        let texts = metadata.strings(key).ok_or_else(|| Error::MissingKey { key: key.to_owned() })?;
        let kinds = metadata.i64s("tokenizer.ggml.token_type");
        let scores = read_scores(metadata);
        let counts = [kinds.as_ref().map(Vec::len), scores.as_ref().map(Vec::len)];
        if let Some(count) = counts.into_iter().flatten().find(|&count| count < texts.len()) {
            return Err(corrupt(format!("it has {} tokens and says something about {count}", texts.len())));
        }
        let token = |(id, text): (usize, &String)| Token {
            // Where a file has a token without text, llama.cpp writes this.
            text: if text.is_empty() { format!("[EMPTY_{id}]") } else { text.clone() },
            kind: kinds.as_ref().map_or(TokenKind::Normal, |kinds| TokenKind::from_number(kinds[id])),
            score: scores.as_ref().map_or(0.0, |scores| scores[id]),
        };
        Ok(Self { tokens: texts.iter().enumerate().map(token).collect() })
    }

    /// Iterates over texts and ids.
    pub(super) fn ids(&self) -> impl Iterator<Item = (&Token, u32)> {
        self.tokens.iter().zip(0_u32..)
    }

    /// Returns the token that `key` names, or the one with id `default` if there is no such key.
    pub(super) fn named(
        &self,
        metadata: &Metadata,
        key: &str,
        default: Option<u32>,
    ) -> Result<Option<(u32, &str)>, Error> {
        let id = match metadata.get(key) {
            Some(value) => value.as_u64().and_then(|id| u32::try_from(id).ok()),
            None => match default {
                Some(id) => Some(id),
                None => return Ok(None),
            },
        };
        let token = id.and_then(|id| Some((id, self.tokens.get(id as usize)?.text.as_str())));
        token
            .map(Some)
            .ok_or_else(|| corrupt(format!("`{key}` is not one of its {} tokens", self.tokens.len())))
    }

    /// Returns the tokens that are recognised in a text before anything else.
    pub(super) fn added(&self, metadata: &Metadata) -> Vec<AddedToken> {
        let strips = Strips::of(metadata);
        self.tokens
            .iter()
            .filter_map(|token| {
                let is_special = match token.kind {
                    TokenKind::Control | TokenKind::Unknown => true,
                    TokenKind::UserDefined => false,
                    TokenKind::Normal | TokenKind::Unused | TokenKind::Byte => return None,
                };
                let added = AddedToken::from(token.text.as_str(), is_special).normalized(false);
                Some(added.lstrip(strips.left_of(&token.text)).rstrip(strips.right_of(&token.text)))
            })
            .collect()
    }
}

impl TokenKind {
    fn from_number(number: i64) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }
}

/// Which tokens swallow the spaces beside them. GGUF files do not say, so llama.cpp knows it by model.
enum Strips {
    None,
    /// The mask swallows what is left of it.
    Mask,
    /// Special tokens swallow what is right of them.
    Phi3,
}

impl Strips {
    fn of(metadata: &Metadata) -> Self {
        let pre = metadata.str("tokenizer.ggml.pre").unwrap_or_default();
        let architecture = metadata.str("general.architecture").unwrap_or_default();
        let name = metadata.str("general.name").unwrap_or_default().to_lowercase();
        let contains = |text: &str, parts: &[&str]| parts.iter().any(|part| text.contains(part));
        if contains(pre, &["jina-v2-de", "jina-v2-es", "jina-v2-code"])
            || contains(architecture, &["nomic-bert-moe", "jina-bert-v3"])
            || contains(&name, &["modern-bert"])
        {
            Self::Mask
        } else if contains(&name, &["phi-3", "phi3"]) {
            Self::Phi3
        } else {
            Self::None
        }
    }

    fn left_of(&self, text: &str) -> bool {
        matches!(self, Self::Mask) && matches!(text, "<mask>" | "[MASK]")
    }

    fn right_of(&self, text: &str) -> bool {
        matches!(self, Self::Phi3) && !matches!(text, "<unk>" | "<s>" | "<|endoftext|>")
    }
}

fn read_scores(metadata: &Metadata) -> Option<Vec<f32>> {
    match metadata.get("tokenizer.ggml.scores")? {
        Value::Array(Array::F32(scores)) => Some(scores.clone()),
        #[expect(
            clippy::cast_precision_loss,
            reason = "scores that are whole numbers are ranks below a million"
        )]
        Value::Array(Array::I32(scores)) => Some(scores.iter().map(|&score| score as f32).collect()),
        _ => None,
    }
}
