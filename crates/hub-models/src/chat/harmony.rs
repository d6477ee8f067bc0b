//! Harmony, the form in which gpt-oss answers: messages in channels, between control tokens.
//!
//! `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…<|return|>`. What is thought goes
//! to `analysis`, what the reader is to see to `final`. `commentary` holds what is said before a tool is called, which
//! the reader is to see as well, and the calls themselves, which name whom they go to. Source: OpenAI's harmony guide,
//! <https://cookbook.openai.com/articles/openai-harmony>.

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
    Header(String),
    /// In a message.
    Message(Channel),
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

    /// Returns the tokens that end a turn. The end of a message is none: the answer follows what was thought.
    pub(crate) fn end_turn(self, mut tokens: Vec<u32>) -> Vec<u32> {
        tokens.retain(|token| *token != self.end);
        tokens.extend(self.stop);
        tokens
    }

    /// Begins an answer: the prompt has written the beginning of its header.
    pub(crate) fn begin(self) -> Harmony {
        Harmony { tokens: self, place: Place::Header(String::new()) }
    }
}

impl Harmony {
    /// Takes the next token, and the text that it completed.
    pub(crate) fn push(&mut self, token: u32, text: &str) -> Split {
        let HarmonyTokens { start, channel, message, end, .. } = self.tokens;
        match &mut self.place {
            _ if token == start || token == end => self.place = Place::Header(String::new()),
            Place::Header(header) if token == message => self.place = Place::Message(channel_of(header)),
            Place::Header(header) => {
                if token == channel {
                    header.push('|');
                }
                header.push_str(text);
                if header.len() > MAX_HEADER {
                    let answer = std::mem::take(header);
                    self.place = Place::Message(Channel::Answer);
                    return Split { answer, ..Split::default() };
                }
            }
            Place::Message(Channel::Thought) => {
                return Split { thought: text.to_owned(), ..Split::default() };
            }
            Place::Message(Channel::Answer) => return Split { answer: text.to_owned(), ..Split::default() },
            Place::Message(Channel::Call) => return Split { call: text.to_owned(), ..Split::default() },
        }
        Split::default()
    }

    /// Takes what was held when the text ended.
    pub(crate) fn finish(&mut self, text: &str) -> Split {
        self.push(u32::MAX, text)
    }
}

/// Reads where a message goes from its header: `assistant to=functions.weather|commentary json`.
fn channel_of(header: &str) -> Channel {
    let (role, channel) = header.split_once('|').unwrap_or((header, "final"));
    let goes_to_tool = role.contains("to=") || channel.contains("to=");
    match channel.split_whitespace().next() {
        Some("analysis") => Channel::Thought,
        Some("commentary") if goes_to_tool => Channel::Call,
        _ => Channel::Answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: HarmonyTokens = HarmonyTokens { start: 1, channel: 2, message: 3, end: 4, stop: [5, 6] };

    /// Takes apart tokens with the text that each completes; control tokens complete none.
    #[track_caller]
    fn check(tokens: &[(u32, &str)], thought: &str, answer: &str, call: &str) {
        let mut harmony = TOKENS.begin();
        let mut all = Split::default();
        for (token, text) in tokens {
            let split = harmony.push(*token, text);
            all.thought.push_str(&split.thought);
            all.answer.push_str(&split.answer);
            all.call.push_str(&split.call);
        }
        let expected = (thought.to_owned(), answer.to_owned(), call.to_owned());
        assert_eq!((all.thought, all.answer, all.call), expected);
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
        let long = "no header at all ".repeat(20);
        check(&[(9, &long)], "", &long, "");
    }

    #[test]
    fn the_end_of_a_message_ends_no_turn() {
        assert_eq!(TOKENS.end_turn(vec![4, 5, 7]), [5, 7, 5, 6]);
    }
}
