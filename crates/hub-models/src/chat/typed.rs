use std::borrow::Cow;

use hub_nn::tokens::Tokenizer;
use serde_json::{Map, Value};

/// Set between the first character of a control token that a person typed and its rest. It is a noncharacter: no text
/// has a use for it.
const BREAK: char = '\u{FDD0}';

/// The control tokens of a model, as a person may type them.
///
/// A template writes control tokens by their texts, so what a message says of them would become them. Such texts are
/// broken up in messages before they are rendered, and what is rendered is read piece by piece: none holds one whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct TypedControls {
    /// In the order of their bytes: some models have thousands.
    texts: Vec<String>,
}

impl TypedControls {
    /// Takes a model's control tokens, and its other added tokens that are marks: DeepSeek's files say of `<｜User｜>`,
    /// and Qwen's of `<tool_call>`, that they are words. Those of `allowed` may be typed, unless they are control tokens.
    pub(crate) fn of(tokenizer: &Tokenizer, template: &str, allowed: &[&str]) -> Self {
        let is_mark = |text: &String| is_mark(text, template) && !allowed.contains(&text.as_str());
        Self::new(tokenizer.special_texts().chain(tokenizer.added_texts().filter(is_mark)))
    }

    fn new(texts: impl Iterator<Item = String>) -> Self {
        // A token of one character cannot be broken up.
        let mut texts: Vec<String> = texts.filter(|text| text.chars().nth(1).is_some()).collect();
        texts.sort_unstable();
        texts.dedup();
        Self { texts }
    }

    /// Whether a text starts with a control token: looks at each byte once, among those that fit so far.
    fn starts(&self, text: &str) -> bool {
        let mut fitting = self.texts.as_slice();
        for (at, byte) in text.bytes().enumerate() {
            let from = fitting.partition_point(|control| control.as_bytes().get(at) < Some(&byte));
            let to = fitting.partition_point(|control| control.as_bytes().get(at) <= Some(&byte));
            fitting = &fitting[from..to];
            match fitting.first() {
                None => return false,
                Some(control) if control.len() == at + 1 => return true,
                Some(_) => {}
            }
        }
        false
    }

    /// Breaks up every control token in a text.
    pub(crate) fn break_up<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut broken = String::new();
        let mut done = 0;
        for (at, first) in text.char_indices() {
            if first == BREAK {
                broken.push_str(&text[done..at]);
                done = at + first.len_utf8();
            } else if self.starts(&text[at..]) {
                let end = at + first.len_utf8();
                broken.push_str(&text[done..end]);
                broken.push(BREAK);
                done = end;
            }
        }
        if done == 0 {
            return Cow::Borrowed(text);
        }
        broken.push_str(&text[done..]);
        Cow::Owned(broken)
    }
}

impl TypedControls {
    /// Breaks up every control token in the texts of an object.
    pub(crate) fn break_up_object(&self, object: &Map<String, Value>) -> Map<String, Value> {
        let pairs = object.iter();
        pairs.map(|(name, value)| (self.break_up(name).into_owned(), self.break_up_value(value))).collect()
    }

    fn break_up_value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.break_up(text).into_owned()),
            Value::Array(items) => items.iter().map(|item| self.break_up_value(item)).collect(),
            Value::Object(object) => Value::Object(self.break_up_object(object)),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }
}

/// Whether an added token is a mark: it looks like one, or like a tag that the template writes or looks for. Others are
/// words and runs of spaces, which the model has read in texts.
fn is_mark(text: &str, template: &str) -> bool {
    text.starts_with("<|")
        || text.starts_with("<｜")
        || (text.starts_with(['<', '[']) && template.contains(text))
}

/// Iterates over the pieces of a rendered text.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split(BREAK).filter(|piece| !piece.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_tokens_are_broken_up_and_nothing_else() {
        let controls =
            TypedControls::new(["<|end|>", "<|endoftext|>", "[INST]", "x"].map(str::to_owned).into_iter());
        let read = |text: &str| pieces(&controls.break_up(text)).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(read("a<|end|>b[INST]"), ["a<", "|end|>b[", "INST]"]);
        assert_eq!(read("<|endoftext|>"), ["<", "|endoftext|>"]);
        assert_eq!(read("<|<|end|>"), ["<|<", "|end|>"]);
        assert_eq!(read("<|end"), ["<|end"]);
        assert_eq!(read("x < y, [inst]"), ["x < y, [inst]"]);
        assert_eq!(read("a\u{FDD0}b"), ["ab"]);
        assert!(matches!(controls.break_up("chào"), Cow::Borrowed("chào")));
    }

    #[test]
    fn a_text_of_beginnings_takes_time_in_proportion() {
        let controls = TypedControls::new((0..10_000).map(|id| format!("<unused{id}>")));
        let text = "<unused".repeat(300_000);
        assert!(matches!(controls.break_up(&text), Cow::Borrowed(_)));
        assert_eq!(controls.break_up("<unused9999>").len(), "<unused9999>".len() + BREAK.len_utf8());
    }

    #[test]
    fn objects_are_broken_up_throughout() {
        let controls = TypedControls::new(["<|end|>"].map(str::to_owned).into_iter());
        let object = serde_json::json!({ "a": ["<|end|>", 1], "b": { "<|end|>": null } });
        let read = Value::Object(controls.break_up_object(object.as_object().unwrap())).to_string();
        assert_eq!(read.matches('\u{FDD0}').count(), 2, "{read}");
        assert!(!read.contains("<|end|>"));
    }
}
