//! The prompt as part of a completion, and the probabilities of tokens in the form of `/v1/completions`.

use std::{borrow::Cow, fmt::Write as _};

use hub::models::{Prompt, TokenLogprob};
use schemars::JsonSchema;
use serde::Serialize;

use super::wire::{finite, token_text};

/// What of the prompt comes back before the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Echo {
    /// Nothing.
    Nothing,
    /// Its text, which is known from the start.
    Texts(Vec<String>),
    /// Its tokens, which come with the answer: their probabilities are asked for (that of the token, and of so many
    /// likeliest ones), or the prompt is tokens whose text the model alone knows. Texts that are known are kept.
    Tokens(u8, Vec<Option<String>>),
}

impl Echo {
    /// Returns what is needed to send these prompts back.
    pub(super) fn of(prompts: &[Prompt], logprobs: Option<u8>) -> Self {
        let text = |prompt: &Prompt| match prompt {
            Prompt::Text(text) => Some(text.clone()),
            _ => None,
        };
        match (prompts.iter().map(text).collect::<Option<Vec<_>>>(), logprobs) {
            (Some(texts), None) => Self::Texts(texts),
            (_, top) => Self::Tokens(top.unwrap_or(0), prompts.iter().map(text).collect()),
        }
    }

    /// Returns what the model is asked about the tokens of the prompt.
    pub(super) fn prompt_logprobs(&self) -> Option<u8> {
        match self {
            Self::Nothing | Self::Texts(_) => None,
            Self::Tokens(top, _) => Some(*top),
        }
    }

    /// Returns the text of a prompt whose tokens these are.
    pub(super) fn text(&self, prompt: usize, tokens: &[TokenLogprob]) -> String {
        let known = match self {
            Self::Nothing => return String::new(),
            Self::Texts(texts) => texts.get(prompt),
            Self::Tokens(_, texts) => texts.get(prompt).and_then(Option::as_ref),
        };
        known.cloned().unwrap_or_else(|| {
            let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.bytes.iter().copied()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }

    /// Writes the probabilities of a prompt's tokens.
    pub(super) fn write(
        &self,
        prompt: usize,
        tokens: &[TokenLogprob],
        offset: &mut Offset,
        logprobs: &mut Logprobs,
    ) {
        let text = chars(self.text(prompt, tokens).as_bytes());
        // Tokens that the tokenizer put before the text (a beginning-of-text token) stand at offset 0.
        let all: usize = tokens.iter().map(|token| chars(&token.bytes)).sum();
        *offset = Offset { chars: 0, ahead: all.saturating_sub(text) };
        logprobs.extend(tokens, offset);
        *offset = Offset { chars: text, ahead: 0 };
    }
}

/// How many characters of a choice come before its next token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offset {
    chars: usize,
    /// Characters of tokens that are still to be left out because the text does not have them.
    ahead: usize,
}

impl Offset {
    fn advance(&mut self, by: usize) {
        let hidden = by.min(self.ahead);
        self.ahead -= hidden;
        self.chars += by - hidden;
    }
}

/// The probabilities of tokens as `/v1/completions` writes them: four lists of one length.
#[derive(Debug, Default, JsonSchema, Serialize)]
#[schemars(rename = "CompletionLogprobs")]
pub(super) struct Logprobs {
    text_offset: Vec<usize>,
    token_logprobs: Vec<Option<f32>>,
    tokens: Vec<String>,
    top_logprobs: Vec<Option<serde_json::Map<String, serde_json::Value>>>,
}

impl Logprobs {
    /// Adds tokens that begin at `offset`, and moves it past them.
    pub(super) fn extend(&mut self, tokens: &[TokenLogprob], offset: &mut Offset) {
        for token in tokens {
            // The first token of a prompt has nothing before it.
            let is_first = token.logprob.is_nan();
            let top =
                || token.top.iter().map(|top| (name(&top.bytes).into_owned(), finite(top.logprob).into()));
            self.text_offset.push(offset.chars);
            self.token_logprobs.push((!is_first).then(|| finite(token.logprob)));
            self.tokens.push(name(&token.bytes).into_owned());
            self.top_logprobs.push((!is_first).then(|| top().collect()));
            offset.advance(chars(&token.bytes));
        }
    }
}

/// Returns the text of a token; one that is not whole characters is spelt out, as OpenAI does, so that two such
/// tokens keep different names.
fn name(bytes: &[u8]) -> Cow<'_, str> {
    if std::str::from_utf8(bytes).is_ok() {
        return token_text(bytes);
    }
    let mut text = "bytes:".to_owned();
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
    text.into()
}

/// Counts the characters that begin in these bytes.
fn chars(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| (**byte & 0xC0) != 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(bytes: &[u8], logprob: f32) -> TokenLogprob {
        TokenLogprob { id: 0, bytes: bytes.to_vec(), logprob, top: Vec::new() }
    }

    #[test]
    fn offsets_count_characters_and_pass_over_what_the_text_lacks() {
        let prompts = [Prompt::Text("ốc".to_owned())];
        let echo = Echo::of(&prompts, Some(2));
        assert_eq!(echo.prompt_logprobs(), Some(2));
        let tokens = [token(b"<s>", f32::NAN), token("ố".as_bytes(), -1.0), token(b"c", f32::NEG_INFINITY)];
        let (mut logprobs, mut offset) = (Logprobs::default(), Offset::default());
        echo.write(0, &tokens, &mut offset, &mut logprobs);
        logprobs.extend(&[token(b"\xe1\xbb", -2.0), token(b"\x91", -2.0), token(b"!", -2.0)], &mut offset);
        assert_eq!(logprobs.text_offset, [0, 0, 1, 2, 3, 3]);
        assert_eq!(
            logprobs.token_logprobs,
            [None, Some(-1.0), Some(-9999.0), Some(-2.0), Some(-2.0), Some(-2.0)]
        );
        assert_eq!(logprobs.tokens[3..5], ["bytes:\\xe1\\xbb", "bytes:\\x91"]);
    }

    #[test]
    fn the_text_of_tokens_comes_from_the_model() {
        let echo = Echo::of(&[Prompt::Tokens(vec![1, 2])], None);
        assert_eq!(echo.prompt_logprobs(), Some(0));
        assert_eq!(echo.text(0, &[token(b"a", f32::NAN), token(b"b", -1.0)]), "ab");
        assert_eq!(Echo::Nothing.text(0, &[token(b"a", -1.0)]), "");
    }
}
