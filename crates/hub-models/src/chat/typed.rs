use std::{borrow::Cow, collections::HashMap};

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
    /// By their first character, longest first.
    by_first: HashMap<char, Vec<String>>,
}

impl TypedControls {
    pub(crate) fn new(texts: impl Iterator<Item = String>) -> Self {
        let mut by_first: HashMap<char, Vec<String>> = HashMap::new();
        for text in texts {
            // A token of one character cannot be broken up.
            if let Some(first) = text.chars().next()
                && text.len() > first.len_utf8()
            {
                by_first.entry(first).or_default().push(text);
            }
        }
        by_first.values_mut().for_each(|texts| texts.sort_by_key(|text| std::cmp::Reverse(text.len())));
        Self { by_first }
    }

    /// Breaks up every control token in a text.
    pub(crate) fn break_up<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut broken = String::new();
        let mut done = 0;
        for (at, first) in text.char_indices() {
            let rest = &text[at..];
            let is_typed = || {
                self.by_first.get(&first).is_some_and(|texts| texts.iter().any(|text| rest.starts_with(text)))
            };
            if first == BREAK {
                broken.push_str(&text[done..at]);
                done = at + first.len_utf8();
            } else if is_typed() {
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
        assert_eq!(read("x < y, [inst]"), ["x < y, [inst]"]);
        assert_eq!(read("a\u{FDD0}b"), ["ab"]);
        assert!(matches!(controls.break_up("chào"), Cow::Borrowed("chào")));
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
