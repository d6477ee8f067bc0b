use super::{
    Tokenizer,
    stop::{Stops, Verdict},
};

/// Turns tokens into text as they come.
///
/// What it gives out is valid UTF-8 and, put together, what [`Tokenizer::decode`] makes of all the tokens without the
/// special ones. Half a character waits for its other half; bytes that no later byte can make a character of become
/// U+FFFD. Text that may turn out to be a stop string waits, too. Takes time in proportion to the text and memory in
/// proportion to the longest stop string.
#[derive(Clone, Debug)]
pub struct TextStream {
    tokenizer: Tokenizer,
    /// How many spaces at the front are still to be dropped.
    leading_spaces: usize,
    /// Bytes that may become a character, at most three.
    unfinished: Vec<u8>,
    stops: Stops,
    /// Special tokens that are spelled out.
    spelled: Vec<u32>,
}

/// The text that a token completed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// The text, often empty.
    pub text: String,
    /// Whether a stop string ended the text; it and all behind it are left out.
    pub is_stopped: bool,
}

impl TextStream {
    /// Starts a text that ends in front of the first of the `stop` strings, if one turns up. Empty ones are ignored.
    pub fn new(tokenizer: &Tokenizer, stop: &[String]) -> Self {
        Self {
            leading_spaces: tokenizer.pieces().leading_spaces(),
            tokenizer: tokenizer.clone(),
            unfinished: Vec::new(),
            stops: Stops::new(stop),
            spelled: Vec::new(),
        }
    }

    /// Spells out these special tokens, which are left out otherwise.
    #[must_use]
    pub fn spelling(mut self, ids: &[u32]) -> Self {
        self.spelled = ids.to_vec();
        self
    }

    /// Goes on with a text instead: the space that a tokenizer puts before a text is part of this one.
    #[must_use]
    pub fn continuing(mut self) -> Self {
        self.leading_spaces = 0;
        self
    }

    /// Looks for these `stop` strings from here on, whatever was looked for before.
    pub fn watch(&mut self, stop: &[String]) {
        self.stops = Stops::new(stop);
    }

    /// Takes the next token. After a stop string nothing more comes out.
    pub fn push(&mut self, id: u32) -> Piece {
        if self.tokenizer.is_special(id) && !self.spelled.contains(&id) {
            return Piece { text: String::new(), is_stopped: self.stops.is_stopped() };
        }
        let mut bytes = self.tokenizer.pieces().get(id);
        while self.leading_spaces > 0 && !bytes.is_empty() {
            match bytes.strip_prefix(b" ") {
                Some(rest) => {
                    bytes = rest;
                    self.leading_spaces -= 1;
                }
                None => self.leading_spaces = 0,
            }
        }
        self.unfinished.extend(bytes);
        let text = take_text(&mut self.unfinished);
        self.feed(&text)
    }

    /// Ends the text: returns what was waiting, unless a stop string ended it before. What is pushed afterwards is
    /// another text.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&std::mem::take(&mut self.unfinished)).into_owned();
        let mut piece = self.feed(&rest);
        if !piece.is_stopped {
            piece.text.push_str(&self.stops.release());
        }
        piece.text
    }

    fn feed(&mut self, text: &str) -> Piece {
        match self.stops.feed(text) {
            Verdict::Goes(text) => Piece { text, is_stopped: false },
            Verdict::Stops(text) => Piece { text, is_stopped: true },
        }
    }
}

/// Takes all whole characters out of `bytes`, and U+FFFD for what cannot become one; the beginning of one stays.
fn take_text(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut taken = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        taken += chunk.valid().len();
        let invalid = chunk.invalid();
        let is_last = taken + invalid.len() == bytes.len();
        if invalid.is_empty() || is_last && is_beginning(invalid) {
            break;
        }
        text.push(char::REPLACEMENT_CHARACTER);
        taken += invalid.len();
    }
    bytes.drain(..taken);
    text
}

/// Whether bytes that are no character could be made one by more bytes.
fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts `bytes` at every place and checks that the parts make the same text as the whole.
    #[track_caller]
    fn check(bytes: &[u8]) {
        for cut in 0..=bytes.len() {
            let mut waiting = bytes[..cut].to_vec();
            let mut text = take_text(&mut waiting);
            assert!(waiting.len() <= 3);
            waiting.extend(&bytes[cut..]);
            text.push_str(&take_text(&mut waiting));
            text.push_str(&String::from_utf8_lossy(&waiting));
            assert_eq!(text, String::from_utf8_lossy(bytes), "cut at {cut}");
        }
    }

    #[test]
    fn characters_are_never_cut() {
        check("xin chào 👩‍👩‍👧 ủ".as_bytes());
        check(b"a\xff\xe1\xbb\xa7\xf0\x9f\x91z\xe1\xbb");
        check(b"\xc3\xc3\xa9\x80\x80");
    }
}
