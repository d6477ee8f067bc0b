//! Values as Python's `str` and `repr` write them.

use std::{cmp::Ordering, fmt, sync::Arc};

use minijinja::{
    Error, ErrorKind, Output, State, Value,
    value::{DynObject, Object, ObjectRepr, ValueKind},
};

use super::{MAX_DEPTH, MAX_OUTPUT_BYTES};

/// Writes `{{ value }}`.
pub(super) fn format(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.write_str(text)?,
        None => out.write_str(&str(state, value)?)?,
    }
    Ok(())
}

/// Returns `str(value)`.
pub(super) fn str(state: &State, value: &Value) -> Result<String, Error> {
    let mut text = String::new();
    match (value.kind(), value.as_str()) {
        (ValueKind::Undefined, _) => {}
        (_, Some(string)) => text.push_str(string),
        _ => repr(value, &mut text, 0)?,
    }
    charge(state, text.len())?;
    Ok(text)
}

/// Pays for text that the engine does not know of.
pub(super) fn charge(state: &State, bytes: usize) -> Result<(), Error> {
    // The engine's own price: a step for four bytes of a value written out.
    state.consume_fuel((bytes / 4) as u64)
}

/// Returns the error for text over the limit.
pub(super) fn too_long() -> Error {
    Error::from(ErrorKind::OutOfFuel)
}

/// Appends `repr(value)`; `depth` counts the values it stands in.
fn repr(value: &Value, text: &mut String, depth: usize) -> Result<(), Error> {
    if text.len() > MAX_OUTPUT_BYTES || depth > MAX_DEPTH {
        return Err(too_long());
    }
    match value.kind() {
        ValueKind::Number => text.push_str(&number(value)),
        ValueKind::String => repr_str(value.as_str().unwrap_or_default(), text),
        ValueKind::Map if value.as_object().is_some_and(|object| object.try_iter_pairs().is_some()) => {
            text.push('{');
            for (index, key) in value.try_iter()?.enumerate() {
                separate(index, text);
                repr(&key, text, depth + 1)?;
                text.push_str(": ");
                repr(&value.get_item(&key)?, text, depth + 1)?;
            }
            text.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            text.push(open);
            for (index, item) in value.try_iter()?.enumerate() {
                separate(index, text);
                repr(&item, text, depth + 1)?;
            }
            if value.is_tuple() && value.len() == Some(1) {
                text.push(',');
            }
            text.push(close);
        }
        ValueKind::Undefined => text.push_str("Undefined"),
        ValueKind::Invalid => return Err(Error::new(ErrorKind::InvalidOperation, value.to_string())),
        // The engine writes `None`, `True` and `False` as Python does.
        _ => text.push_str(&value.to_string()),
    }
    Ok(())
}

fn separate(index: usize, text: &mut String) {
    if index > 0 {
        text.push_str(", ");
    }
}

/// Returns a number as both `str` and `repr` write it.
pub(super) fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(number) if !value.is_integer() => float(number),
        _ => value.to_string(),
    }
}

/// Makes a floating-point number of a conversation a value.
///
/// Where a template joins texts with `~`, the engine writes numbers itself, and never with an exponent. So a number
/// that Python writes with one becomes an [`Extreme`]: it prints right everywhere, and cannot be calculated with.
pub(super) fn float_value(number: f64) -> Value {
    if has_exponent(number) { Value::from_object(Extreme(number)) } else { Value::from(number) }
}

/// Tells whether a value is a number made by [`float_value`] that is no number to the engine.
pub(super) fn is_extreme(value: &Value) -> bool {
    value.downcast_object_ref::<Extreme>().is_some()
}

/// A number that Python writes with an exponent.
#[derive(Debug)]
struct Extreme(f64);

impl Object for Extreme {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        other.downcast_ref::<Self>().map(|other| self.0.total_cmp(&other.0))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&float(self.0))
    }
}

/// Returns the shortest text that reads back as the same number.
///
/// Source: `float_repr_style` "short" of CPython, `Python/pystrtod.c`.
fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    if !has_exponent(number) {
        // `Debug` keeps the ".0" of a whole number, and writes no exponent in this range.
        return format!("{number:?}");
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// Tells whether Python writes a number with an exponent.
fn has_exponent(number: f64) -> bool {
    let size = number.abs();
    size != 0.0 && size.is_finite() && !(1e-4..1e16).contains(&size)
}

/// Appends a string in quotes.
fn repr_str(string: &str, text: &mut String) {
    let quote = if string.contains('\'') && !string.contains('"') { '"' } else { '\'' };
    text.push(quote);
    for char in string.chars() {
        match char {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            char if char == quote => text.extend(['\\', char]),
            char if is_printable(char) => text.push(char),
            char => text.push_str(&match u32::from(char) {
                code @ ..=0xff => format!("\\x{code:02x}"),
                code @ ..=0xffff => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
        }
    }
    text.push(quote);
}

/// Tells what `str.isprintable` tells.
fn is_printable(char: char) -> bool {
    if char.is_ascii() {
        return !char.is_ascii_control();
    }
    // Rust's debugging form escapes the same categories. It also escapes a combining mark, but only where it stands
    // first.
    let pair = String::from_iter(['a', char]);
    pair.escape_debug().eq(pair.chars())
}

#[cfg(test)]
mod tests {
    use super::{float, repr};
    use minijinja::Value;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (number, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1e-7, "1e-07"),
            (1.5e-7, "1.5e-07"),
            (123456789.125, "123456789.125"),
            (1e15, "1000000000000000.0"),
            (9007199254740993.0, "9007199254740992.0"),
            (1e16, "1e+16"),
            (1e22, "1e+22"),
            (-2.5e300, "-2.5e+300"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(float(number), expected);
        }
    }

    #[track_caller]
    fn check(value: Value, expected: &str) {
        let mut text = String::new();
        repr(&value, &mut text, 0).unwrap();
        assert_eq!(text, expected);
    }

    #[test]
    fn strings_are_quoted_as_python_quotes_them() {
        check(Value::from("it"), "'it'");
        check(Value::from("it's"), "\"it's\"");
        check(Value::from("it's \"so\""), "'it\\'s \"so\"'");
        check(
            Value::from("a\\\n\t\u{7f}\u{a0}\u{200b}\u{1f600}\u{e0001}"),
            "'a\\\\\\n\\t\\x7f\\xa0\\u200b\u{1f600}\\U000e0001'",
        );
        check(Value::from("e\u{301} ế"), "'e\u{301} ế'");
    }

    #[test]
    fn containers_nest() {
        let list = Value::from(vec![Value::from(true), Value::from(()), Value::from(1e22), Value::from("a")]);
        check(Value::from_pairs([("k", list)]), "{'k': [True, None, 1e+22, 'a']}");
    }
}
