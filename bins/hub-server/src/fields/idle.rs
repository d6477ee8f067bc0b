use serde_json::{Value, json};

/// A field that is known and does nothing here.
pub(crate) struct Unserved {
    /// Its name.
    pub(crate) name: &'static str,
    /// The values that ask for nothing, and are therefore accepted; every other value is refused by name.
    pub(crate) idle: Idle,
}

/// Values that ask for nothing.
pub(crate) enum Idle {
    /// None but `null`.
    Never,
    /// Every value.
    Any,
    Text,
    Number,
    Boolean,
    Object,
    EmptyList,
    /// This value.
    False,
    /// This value.
    True,
    /// This number, however it is written.
    Is(f64),
    /// One of these texts.
    Words(&'static [&'static str]),
    /// What this makes.
    Exactly(fn() -> Value),
}

impl Idle {
    /// Tells whether a value asks for nothing.
    pub(super) fn is(&self, value: &Value) -> bool {
        match self {
            Self::Never => false,
            Self::Any => true,
            Self::Text => value.is_string(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Object => value.is_object(),
            Self::EmptyList => value.as_array().is_some_and(Vec::is_empty),
            Self::False => value == &Value::Bool(false),
            Self::True => value == &Value::Bool(true),
            Self::Is(number) => value.as_f64() == Some(*number),
            Self::Words(words) => value.as_str().is_some_and(|word| words.contains(&word)),
            Self::Exactly(make) => value == &make(),
        }
    }

    /// Returns the schema of the values that ask for nothing, if there are any.
    pub(super) fn form(&self) -> Option<Value> {
        Some(match self {
            Self::Never => return None,
            Self::Any => json!({}),
            Self::Text => json!({ "type": "string" }),
            Self::Number => json!({ "type": "number" }),
            Self::Boolean => json!({ "type": "boolean" }),
            Self::Object => json!({ "type": "object" }),
            Self::EmptyList => json!({ "type": "array", "maxItems": 0 }),
            Self::False => json!({ "const": false }),
            Self::True => json!({ "const": true }),
            // A whole number is written as one.
            Self::Is(number) if number.fract() == 0.0 => json!({ "const": *number as i64 }),
            Self::Is(number) => json!({ "const": number }),
            Self::Words(words) => json!({ "enum": words }),
            Self::Exactly(make) => json!({ "const": make() }),
        })
    }
}
