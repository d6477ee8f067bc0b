//! The bytes that each token stands for.

use serde_json::Value;

/// How the vocabulary of a tokenizer spells bytes, as its decoder says.
#[derive(Debug, Default)]
struct Spelling {
    /// Every byte is spelled as one printable character.
    is_byte_level: bool,
    /// `<0x0A>` stands for the byte 10.
    has_byte_tokens: bool,
    /// What to write instead of what.
    replacements: Vec<(String, String)>,
    /// What marks a token that continues a word; all others start one.
    continuation: Option<String>,
    /// How many spaces in front of the whole text nobody wrote.
    leading_spaces: usize,
}

/// The bytes of every token, by id.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    bytes: Vec<u8>,
    /// Where the bytes of each token end; they start where those before it end.
    ends: Vec<usize>,
    leading_spaces: usize,
}

impl Pieces {
    /// Spells out `tokens`, given in the order of their ids, by the rules of `decoder`.
    pub(super) fn new(decoder: &Value, tokens: impl IntoIterator<Item = Option<String>>) -> Self {
        let mut spelling = Spelling::default();
        spelling.learn(decoder);
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for token in tokens {
            if let Some(token) = token {
                spelling.spell(&token, &mut bytes);
            }
            ends.push(bytes.len());
        }
        Self { bytes, ends, leading_spaces: spelling.leading_spaces }
    }

    /// Returns the bytes of a token; none for an id without a token.
    pub(super) fn get(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let start = id.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied());
        match (start, self.ends.get(id)) {
            (Some(start), Some(&end)) => self.bytes.get(start..end).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Returns how many bytes the longest token has.
    pub(super) fn longest(&self) -> usize {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(start, end)| end - start).max().unwrap_or(0)
    }

    /// Returns how many ids there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns how many spaces in front of a whole text are the tokenizer's and not the text's.
    pub(super) fn leading_spaces(&self) -> usize {
        self.leading_spaces
    }
}

impl Spelling {
    /// Reads a decoder in the form that `tokenizer.json` has.
    fn learn(&mut self, decoder: &Value) {
        let text = |key: &str| decoder[key].as_str().map(str::to_owned);
        match decoder["type"].as_str() {
            Some("Sequence") => {
                decoder["decoders"].as_array().into_iter().flatten().for_each(|part| self.learn(part))
            }
            Some("ByteLevel") => self.is_byte_level = true,
            Some("ByteFallback") => self.has_byte_tokens = true,
            Some("Replace") => {
                if let (Some(from), Some(to)) = (decoder["pattern"]["String"].as_str(), text("content")) {
                    self.replacements.push((from.to_owned(), to));
                }
            }
            Some("Metaspace") => {
                self.replacements.extend(text("replacement").map(|from| (from, " ".to_owned())));
                if decoder["prepend_scheme"].as_str() != Some("never") {
                    self.leading_spaces = 1;
                }
            }
            Some("Strip") if decoder["content"].as_str() == Some(" ") => {
                self.leading_spaces =
                    decoder["start"].as_u64().and_then(|start| start.try_into().ok()).unwrap_or(0);
            }
            Some("WordPiece") => {
                self.continuation = text("prefix");
                self.leading_spaces = 1;
            }
            Some("BPEDecoder") => self.replacements.extend(text("suffix").map(|from| (from, " ".to_owned()))),
            _ => {}
        }
    }

    fn spell(&self, token: &str, out: &mut Vec<u8>) {
        if self.has_byte_tokens
            && let Some(byte) = parse_byte_token(token)
        {
            out.push(byte);
            return;
        }
        if self.is_byte_level {
            let before = out.len();
            for letter in token.chars() {
                match byte_of_letter(letter) {
                    Some(byte) => out.push(byte),
                    None => {
                        // A token that was added as plain text.
                        out.truncate(before);
                        out.extend(token.as_bytes());
                        return;
                    }
                }
            }
            return;
        }
        let mut text = token.to_owned();
        if let Some(mark) = &self.continuation {
            text = text.strip_prefix(mark.as_str()).map_or_else(|| format!(" {token}"), str::to_owned);
        }
        for (from, to) in self.replacements.iter().filter(|(from, _)| !from.is_empty()) {
            text = text.replace(from, to);
        }
        out.extend(text.as_bytes());
    }
}

/// Reads a token such as `<0x0A>`.
pub(super) fn parse_byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// Returns the byte that a letter of the byte-level alphabet stands for.
///
/// Printable bytes are themselves; the others are, in order, the letters from U+0100 on.
/// Source: `bytes_to_unicode` in <https://github.com/openai/gpt-2/blob/master/src/encoder.py>.
fn byte_of_letter(letter: char) -> Option<u8> {
    let is_printable = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    match u32::from(letter) {
        code @ 0..=0xff => u8::try_from(code).ok().filter(|&byte| is_printable(byte)),
        code => (0..=u8::MAX).filter(|&byte| !is_printable(byte)).nth(usize::try_from(code - 0x100).ok()?),
    }
}

/// Returns the letters of the byte-level alphabet, by byte.
pub(super) fn letters() -> [char; 256] {
    let mut letters = ['\0'; 256];
    for letter in (0..0x200).filter_map(char::from_u32) {
        if let Some(byte) = byte_of_letter(letter) {
            letters[usize::from(byte)] = letter;
        }
    }
    letters
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(decoder: Value, token: &str, expected: &[u8]) {
        let pieces = Pieces::new(&decoder, [None, Some(token.to_owned())]);
        assert_eq!(pieces.get(1), expected);
        assert!(pieces.get(0).is_empty());
        assert!(pieces.get(2).is_empty());
    }

    #[test]
    fn tokens_are_spelled_as_their_decoder_says() {
        check(json!({ "type": "ByteLevel" }), "Ġxin", b" xin");
        check(json!({ "type": "ByteLevel" }), "ĊÃ", b"\n\xc3");
        check(json!({ "type": "ByteLevel" }), "<｜end｜>", "<｜end｜>".as_bytes());
        let spm = json!({ "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" },
        ] });
        check(spm.clone(), "▁xin▁", b" xin ");
        check(spm.clone(), "<0xE1>", b"\xe1");
        check(spm, "<0xE>", b"<0xE>");
        check(json!({ "type": "WordPiece", "prefix": "##" }), "##ing", b"ing");
        check(json!({ "type": "WordPiece", "prefix": "##" }), "play", b" play");
        check(Value::Null, "play", b"play");
    }

    #[test]
    fn every_byte_has_one_letter() {
        let letters = (0..0x200).filter_map(char::from_u32);
        let mut bytes: Vec<u8> = letters.filter_map(byte_of_letter).collect();
        bytes.sort_unstable();
        assert!(bytes.into_iter().eq(0..=u8::MAX));
        assert!((0..=u8::MAX).all(|byte| byte_of_letter(super::letters()[usize::from(byte)]) == Some(byte)));
    }
}
