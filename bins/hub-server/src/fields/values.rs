use serde_json::Value;

/// Writes whole numbers as such, and those in arrays: JSON knows one kind of number, so that `16.0` is 16.
pub(super) fn whole(value: &mut Value) {
    /// Up to here a float says which whole number it is.
    const EXACT: f64 = (1_u64 << 53) as f64;
    match value {
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() <= EXACT);
            if let Some(whole) = whole {
                *value = Value::from(whole as i64);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(whole),
        _ => {}
    }
}

/// Says in words what serde says of the types of this program.
pub(super) fn in_words(error: &str) -> String {
    let whole = ["usize", "u8", "u16", "u32", "u64", "i64"].map(|name| (name, "a whole number that fits"));
    let known = whole.into_iter().chain([("f32", "a number"), ("f64", "a number")]);
    let matching = known.into_iter().find(|(name, _)| error.ends_with(&format!("expected {name}")));
    matching.map_or_else(|| error.to_owned(), |(name, words)| error.trim_end_matches(name).to_owned() + words)
}

/// Returns what a JSON value is, for an error about it.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
