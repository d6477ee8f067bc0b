//! Harmony, the form in which gpt-oss answers: messages in channels, between control tokens.
//!
//! `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…<|return|>`. What is thought goes
//! to `analysis`, what the reader is to see to `final`. `commentary` holds what is said before a tool is called, which
//! the reader is to see as well, and the calls themselves, which name whom they go to. Source: OpenAI's harmony guide,
//! <https://cookbook.openai.com/articles/openai-harmony>. Checked against `openai-harmony` 0.0.8:
//! `fixtures/harmony/expect.py`.

use hub_nn::tokens::Tokenizer;

use super::thinking::Split;

/// No header is longer; what goes on is a message without one.
const MAX_HEADER: usize = 256;

/// The control tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HarmonyTokens {
    start: u32,
    channel: u32,
    message: u32,
    end: u32,
    stop: [u32; 2],
}

/// Takes an answer apart, token by token: only control tokens divide it, whatever texts spell them.
#[derive(Clone, Debug)]
pub(crate) struct Harmony {
    tokens: HarmonyTokens,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    /// In a message's header, as far as it is read.
    Header(Header),
    /// In a message.
    Message(Channel),
}

/// What stands before a message.
#[derive(Clone, Debug, Default)]
struct Header {
    /// Who speaks, and perhaps to whom: `assistant to=functions.weather`.
    role: String,
    /// What follows the control token of channels: `commentary json`.
    channel: Option<String>,
    /// Whether the prompt began it, so that what is in it need not be a role.
    is_first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Thought,
    Answer,
    /// What goes to a tool and to nobody else.
    Call,
}

impl HarmonyTokens {
    /// Returns the control tokens of a tokenizer that has them all.
    pub(crate) fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let id = |text: &str| tokenizer.id_of(text).filter(|id| tokenizer.is_special(*id));
        Some(Self {
            start: id("<|start|>")?,
            channel: id("<|channel|>")?,
            message: id("<|message|>")?,
            end: id("<|end|>")?,
            stop: [id("<|return|>")?, id("<|call|>")?],
        })
    }

    /// Whether a template writes them.
    pub(crate) fn are_written_by(template: &str) -> bool {
        template.contains("<|channel|>") && template.contains("<|message|>")
    }

    /// Returns the tokens that end a turn. The end of a message is none: the answer follows what was thought.
    pub(crate) fn end_turn(self, mut tokens: Vec<u32>) -> Vec<u32> {
        tokens.retain(|token| *token != self.end);
        tokens.extend(self.stop);
        tokens
    }

    /// Begins an answer: the prompt has written the beginning of its header.
    pub(crate) fn begin(self) -> Harmony {
        let header = Header { is_first: true, ..Header::default() };
        Harmony { tokens: self, place: Place::Header(header) }
    }
}

impl Harmony {
    /// Whether a token divides the answer, so that the text before it is over.
    pub(crate) fn divides(&self, token: u32) -> bool {
        let HarmonyTokens { start, channel, message, end, stop } = self.tokens;
        [start, channel, message, end].contains(&token) || stop.contains(&token)
    }

    /// Whether text that comes now belongs to a message, and not to its header.
    pub(crate) fn is_in_message(&self) -> bool {
        matches!(self.place, Place::Message(_))
    }

    /// Takes a token that divides the answer, or ends it. A text that had no header at all is an answer nevertheless.
    pub(crate) fn divide(&mut self, token: u32) -> Split {
        let HarmonyTokens { channel, message, .. } = self.tokens;
        match &mut self.place {
            Place::Header(header) if token == message => self.place = Place::Message(header.channel()),
            Place::Header(header) if token == channel => header.channel = Some(String::new()),
            Place::Message(_) if token == message => {}
            place => {
                let answer = match place {
                    Place::Header(header) if header.is_first && header.channel.is_none() => {
                        std::mem::take(&mut header.role)
                    }
                    _ => String::new(),
                };
                // A message that lacks its end goes no further than the next one's channel.
                let channel = (token == channel).then(String::new);
                *place = Place::Header(Header { channel, ..Header::default() });
                return Split { answer, ..Split::default() };
            }
        }
        Split::default()
    }

    /// Takes text.
    pub(crate) fn push(&mut self, text: &str) -> Split {
        match &mut self.place {
            Place::Header(header) => {
                header.text().push_str(text);
                if header.len() <= MAX_HEADER {
                    return Split::default();
                }
                let answer = std::mem::take(header.text());
                self.place = Place::Message(Channel::Answer);
                Split { answer, ..Split::default() }
            }
            Place::Message(Channel::Thought) => Split { thought: text.to_owned(), ..Split::default() },
            Place::Message(Channel::Answer) => Split { answer: text.to_owned(), ..Split::default() },
            Place::Message(Channel::Call) => Split { call: text.to_owned(), ..Split::default() },
        }
    }
}

impl Header {
    /// Returns the part that is being read.
    fn text(&mut self) -> &mut String {
        self.channel.as_mut().unwrap_or(&mut self.role)
    }

    fn len(&self) -> usize {
        self.role.len() + self.channel.as_ref().map_or(0, String::len)
    }

    /// Says where the message goes. The name of whom it goes to may stand in either part.
    fn channel(&self) -> Channel {
        let channel = self.channel.as_deref().unwrap_or_default();
        let mut words = self.role.split_whitespace().chain(channel.split_whitespace());
        let goes_to_tool = words.any(|word| word.starts_with("to="));
        match channel.split_whitespace().next() {
            Some("final") => Channel::Answer,
            _ if goes_to_tool => Channel::Call,
            Some("analysis") => Channel::Thought,
            _ => Channel::Answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    const TOKENS: HarmonyTokens = HarmonyTokens { start: 1, channel: 2, message: 3, end: 4, stop: [5, 6] };

    /// Takes apart tokens with the text that each completes; control tokens complete none.
    #[track_caller]
    fn check(tokens: &[(u32, &str)], thought: &str, answer: &str, call: &str) {
        let mut harmony = TOKENS.begin();
        let mut all = Split::default();
        let mut add = |split: Split| {
            all.thought.push_str(&split.thought);
            all.answer.push_str(&split.answer);
            all.call.push_str(&split.call);
        };
        for (token, text) in tokens {
            if harmony.divides(*token) {
                add(harmony.divide(*token));
            } else {
                add(harmony.push(text));
            }
        }
        let expected = (thought.to_owned(), answer.to_owned(), call.to_owned());
        assert_eq!((all.thought, all.answer, all.call), expected);
    }

    #[derive(Deserialize)]
    struct Case {
        pieces: Vec<(String, String)>,
        thought: String,
        answer: String,
        call: String,
    }

    #[test]
    fn answers_are_taken_apart_as_openai_does_it() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../../../fixtures/harmony/expected.json")).unwrap();
        assert!(cases.len() > 100);
        let id = |name: &str| match name {
            "<|start|>" => 1,
            "<|channel|>" => 2,
            "<|message|>" => 3,
            "<|end|>" => 4,
            "<|return|>" => 5,
            "<|call|>" => 6,
            _ => 9,
        };
        for case in &cases {
            let tokens: Vec<_> = case.pieces.iter().map(|(name, text)| (id(name), text.as_str())).collect();
            check(&tokens, &case.thought, &case.answer, &case.call);
        }
    }

    #[test]
    fn channels_are_told_apart() {
        check(
            &[
                (2, ""),
                (9, "analy"),
                (9, "sis"),
                (3, ""),
                (9, "hm, "),
                (9, "<|end|>"),
                (4, ""),
                (1, ""),
                (9, "assistant"),
                (2, ""),
                (9, "final"),
                (3, ""),
                (9, "Xin "),
                (9, "chào"),
            ],
            "hm, <|end|>",
            "Xin chào",
            "",
        );
    }

    #[test]
    fn commentary_is_seen_and_calls_are_not() {
        check(
            &[
                (2, ""),
                (9, "commentary"),
                (3, ""),
                (9, "Let me look. "),
                (4, ""),
                (1, ""),
                (9, "assistant to=functions.weather"),
                (2, ""),
                (9, "commentary json"),
                (3, ""),
                (9, "{}"),
            ],
            "",
            "Let me look. ",
            "{}",
        );
    }

    #[test]
    fn an_answer_without_channels_is_an_answer() {
        check(&[(3, ""), (9, "Yes")], "", "Yes", "");
        check(&[(9, "Yes"), (9, "!"), (5, "")], "", "Yes!", "");
        check(&[(3, ""), (9, "Yes"), (4, ""), (1, ""), (9, "assistant")], "", "Yes", "");
        let long = "no header at all ".repeat(20);
        check(&[(9, &long)], "", &long, "");
    }

    #[test]
    fn whom_a_message_goes_to_stands_before_or_behind_its_channel() {
        for header in [["", "analysis to=browser.search code"], [" to=python", "analysis"]] {
            let [role, channel] = header;
            check(&[(9, role), (2, ""), (9, channel), (3, ""), (9, "1+1")], "", "", "1+1");
        }
        check(&[(2, ""), (9, "final to=user"), (3, ""), (9, "2")], "", "2", "");
    }

    #[test]
    fn a_message_without_an_end_ends_at_the_next_channel() {
        let tokens = [
            (2, ""),
            (9, "analysis"),
            (3, ""),
            (9, "hm"),
            (2, ""),
            (9, "final"),
            (3, ""),
            (9, "so"),
            (3, ""),
        ];
        check(&tokens, "hm", "so", "");
    }

    #[test]
    fn the_end_of_a_message_ends_no_turn() {
        assert_eq!(TOKENS.end_turn(vec![4, 5, 7]), [5, 7, 5, 6]);
    }
}
