use std::mem;

use hub_nn::tokens::Tokenizer;

/// How models set thinking apart from what they answer.
const MARKS: &[(&str, &str)] = &[
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
];

/// Tells what a model thinks from what it answers, while the text arrives.
///
/// Thinking comes first, between two marks that the model's template knows; some templates write the first mark
/// themselves. White space around either part is dropped. A text that does not begin with the mark is all answer.
#[derive(Clone, Debug)]
pub(crate) struct Thinking {
    open: &'static str,
    close: &'static str,
    place: Place,
    /// Text that may be the beginning of a mark, or white space at an end.
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before anything but white space.
    Start,
    /// Between the marks; nothing but white space yet.
    BeforeThought,
    /// Between the marks.
    Inside,
    /// Behind the second mark; nothing but white space yet.
    BeforeAnswer,
    /// In the answer.
    Answer,
}

/// A text, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) thought: String,
    pub(crate) answer: String,
    /// What goes to a tool.
    pub(crate) call: String,
}

impl Thinking {
    /// Returns what tells the parts of a model's answers apart, if its template knows any marks.
    pub(crate) fn of_template(source: &str) -> Option<Self> {
        let (open, close) = MARKS.iter().find(|(_, close)| source.contains(close))?;
        Some(Self { open, close, place: Place::Start, held: String::new() })
    }

    /// Returns the marks.
    pub(crate) fn marks(&self) -> [&'static str; 2] {
        [self.open, self.close]
    }

    /// Returns those of the marks that are control tokens, which answers leave out unless they are told otherwise.
    pub(crate) fn controls(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let ids = self.marks().into_iter().filter_map(|mark| tokenizer.id_of(mark));
        ids.filter(|id| tokenizer.is_special(*id)).collect()
    }

    /// Begins an answer to a rendered prompt, which may have opened the thinking, or closed it.
    pub(crate) fn after(&self, prompt: &str) -> Self {
        let is_open = prompt.trim_end().ends_with(self.open);
        Self {
            place: if is_open { Place::BeforeThought } else { Place::Start },
            held: String::new(),
            ..*self
        }
    }

    /// Takes the next piece of text.
    pub(crate) fn push(&mut self, text: &str) -> Split {
        self.held.push_str(text);
        let mut split = Split::default();
        while self.step(&mut split) {}
        split
    }

    /// Ends the text: returns what was held.
    pub(crate) fn finish(&mut self) -> Split {
        let held = mem::take(&mut self.held);
        match self.place {
            Place::Start | Place::Answer => Split { answer: held, ..Split::default() },
            Place::BeforeThought | Place::Inside => {
                Split { thought: held.trim_end().to_owned(), ..Split::default() }
            }
            Place::BeforeAnswer => Split::default(),
        }
    }

    /// Moves on within what is held; false once more text is needed.
    fn step(&mut self, split: &mut Split) -> bool {
        match self.place {
            Place::Start => {
                let text = self.held.trim_start();
                if let Some(rest) = text.strip_prefix(self.open) {
                    self.held = rest.to_owned();
                    self.place = Place::BeforeThought;
                    return true;
                }
                if self.open.starts_with(text) {
                    return false;
                }
                self.place = Place::Answer;
                true
            }
            Place::BeforeThought => self.skip_space(Place::Inside),
            Place::Inside => {
                if let Some((thought, rest)) = self.held.split_once(self.close) {
                    split.thought.push_str(thought.trim_end());
                    self.held = rest.to_owned();
                    self.place = Place::BeforeAnswer;
                    return true;
                }
                let kept = self.held.len() - self.undecided();
                split.thought.push_str(&self.held[..kept]);
                self.held.drain(..kept);
                false
            }
            Place::BeforeAnswer => self.skip_space(Place::Answer),
            Place::Answer => {
                split.answer.push_str(&mem::take(&mut self.held));
                false
            }
        }
    }

    fn skip_space(&mut self, next: Place) -> bool {
        self.held = self.held.trim_start().to_owned();
        if self.held.is_empty() {
            return false;
        }
        self.place = next;
        true
    }

    /// Returns how many bytes at the end may begin the second mark, with the white space before them.
    fn undecided(&self) -> usize {
        let begins =
            |at: &usize| self.held.is_char_boundary(*at) && self.close.starts_with(&self.held[*at..]);
        let longest = self.held.len().saturating_sub(self.close.len());
        let mark = (longest..self.held.len()).find(begins).unwrap_or(self.held.len());
        self.held.len() - self.held[..mark].trim_end().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a text cut at every place, and in single characters, and checks that the parts are always the same.
    #[track_caller]
    fn check(prompt: &str, text: &str, thought: &str, answer: &str) {
        let thinking = Thinking::of_template("{{ '<think>' }}{{ '</think>' }}").unwrap().after(prompt);
        let cuts = text.char_indices().map(|(at, _)| vec![&text[..at], &text[at..]]);
        let single = text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]).collect();
        for pieces in cuts.chain([single, vec![text]]) {
            let mut thinking = thinking.clone();
            let mut parts: Vec<Split> = pieces.iter().map(|piece| thinking.push(piece)).collect();
            parts.push(thinking.finish());
            let all = |part: fn(&Split) -> &String| {
                parts.iter().map(|split| part(split).as_str()).collect::<String>()
            };
            assert_eq!(
                (all(|s| &s.thought), all(|s| &s.answer)),
                (thought.to_owned(), answer.to_owned()),
                "{pieces:?}"
            );
        }
    }

    #[test]
    fn thinking_is_told_from_the_answer() {
        check(
            "<|assistant|>",
            "<think>\nhm, đúng </ rồi\n</think>\n\nXin chào!\n",
            "hm, đúng </ rồi",
            "Xin chào!\n",
        );
        check("<|assistant|>", "\n<think></think>Yes", "", "Yes");
        check("<|assistant|>", "<think>cut off <", "cut off <", "");
    }

    #[test]
    fn the_template_may_have_opened_it() {
        check("<|assistant|>\n<think>\n", "so\n\nso</think>\nYes </think>", "so\n\nso", "Yes </think>");
        check("<think>", "never ends ", "never ends", "");
    }

    #[test]
    fn an_answer_without_thinking_is_whole() {
        check("<think>\n\n</think>\n\n", "  Yes <think>", "", "  Yes <think>");
        check("", "<thin ice", "", "<thin ice");
        check("", "<thi", "", "<thi");
    }

    #[test]
    fn a_template_without_marks_has_no_thinking() {
        assert!(Thinking::of_template("{{ messages }}").is_none());
    }
}
