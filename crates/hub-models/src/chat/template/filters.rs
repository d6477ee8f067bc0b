//! Filters and tests that Jinja2 defines otherwise than the engine.

use minijinja::{
    Error, State, Value,
    value::{Kwargs, Rest, ValueKind, ValueOrKwargs, from_args},
};

use super::{MAX_OUTPUT_BYTES, python};

/// Where Python's `str.splitlines` ends a line, besides `\r\n`.
const LINE_ENDS: [char; 10] =
    ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];

/// Returns `str(value)`.
pub(super) fn string(state: &State, value: &Value) -> Result<String, Error> {
    python::str(state, value)
}

/// Joins the texts of all items: `join(value, d="", attribute=none)`.
pub(super) fn join(
    state: &State,
    value: &Value,
    separator: Option<Value>,
    attribute: Option<String>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let separator = separator.map_or_else(|| kwargs.get("d"), |given| Ok(Some(given)))?;
    let attribute: Option<String> =
        attribute.map_or_else(|| kwargs.get("attribute"), |given| Ok(Some(given)))?;
    kwargs.assert_all_used()?;
    let separator =
        separator.map_or_else(|| Ok(String::new()), |separator| python::str(state, &separator))?;
    let mut joined = String::new();
    for (index, mut item) in value.try_iter()?.enumerate() {
        if index > 0 {
            joined.push_str(&separator);
        }
        for name in attribute.iter().flat_map(|path| path.split('.')) {
            item = match name.parse() {
                Ok(index) => item.get_item_by_index(index)?,
                Err(_) => item.get_attr(name)?,
            };
        }
        python::charge(state, separator.len())?;
        joined.push_str(&python::str(state, &item)?);
    }
    Ok(joined)
}

/// Indents all lines but the first: `indent(text, width=4, first=false, blank=false)`.
///
/// Source: `do_indent` of Jinja2 3.1.6, which keeps a line break at the end.
pub(super) fn indent(state: &State, text: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let args = args.into_values();
    let (width, first, blank, kwargs): (Option<Value>, Option<bool>, Option<bool>, Kwargs) =
        from_args(&args)?;
    let width: Option<Value> = width.map_or_else(|| kwargs.get("width"), |given| Ok(Some(given)))?;
    let first: Option<bool> = first.map_or_else(|| kwargs.get("first"), |given| Ok(Some(given)))?;
    let blank: Option<bool> = blank.map_or_else(|| kwargs.get("blank"), |given| Ok(Some(given)))?;
    kwargs.assert_all_used()?;
    let text = python::str(state, text)?;
    let lines = lines(&text);
    let indentation = match width {
        Some(width) if width.as_str().is_some() => width.as_str().unwrap_or_default().to_owned(),
        Some(width) => spaces(usize::try_from(i64::try_from(width)?.max(0)).unwrap_or(usize::MAX))?,
        None => spaces(4)?,
    };
    let added = indentation.len().saturating_mul(lines.len());
    if added > MAX_OUTPUT_BYTES {
        return Err(python::too_long());
    }
    python::charge(state, added)?;
    let mut indented = String::with_capacity(text.len() + added);
    for (index, line) in lines.iter().enumerate() {
        let is_first = index == 0;
        if !is_first {
            indented.push('\n');
        }
        if (is_first && first == Some(true)) || (!is_first && (!line.is_empty() || blank == Some(true))) {
            indented.push_str(&indentation);
        }
        indented.push_str(line);
    }
    Ok(indented)
}

fn spaces(count: usize) -> Result<String, Error> {
    if count > MAX_OUTPUT_BYTES { Err(python::too_long()) } else { Ok(" ".repeat(count)) }
}

/// Splits a text into lines. One that ends with a line break has an empty line after it.
fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(LINE_ENDS) {
        lines.push(&rest[..end]);
        let broken = &rest[end..];
        let char = broken.chars().next().map_or(0, char::len_utf8);
        rest = &broken[if broken.starts_with("\r\n") { 2 } else { char }..];
    }
    lines.push(rest);
    lines
}

/// Tells whether Python can iterate over a value; not over `none`.
pub(super) fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// Tells whether a value has a length and items, which texts and maps have too.
pub(super) fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map)
}

/// Tells whether a value is a number, which truth values are too.
pub(super) fn is_number(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Number | ValueKind::Bool) || python::is_extreme(value)
}

/// Tells whether a value is a floating-point number.
pub(super) fn is_float(value: &Value) -> bool {
    (value.kind() == ValueKind::Number && !value.is_integer()) || python::is_extreme(value)
}
