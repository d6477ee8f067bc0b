//! Methods of Python's strings and dictionaries.

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Tuple, from_args},
};
use minijinja_contrib::pycompat;

/// Calls a method that the engine itself does not know.
pub(super) fn call(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    match value.as_str().map(|text| of_string(text, name, args)) {
        Some(Ok(result)) => Ok(result),
        Some(Err(error)) if error.kind() != ErrorKind::UnknownMethod => Err(error),
        _ => pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// Calls a method of strings that `pycompat` lacks.
fn of_string(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    match name {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        "partition" => {
            let (separator,) = from_args(args)?;
            let (before, after) =
                text.split_once(filled(separator)?).map_or((text, None), |(b, a)| (b, Some(a)));
            let separator = if after.is_some() { separator } else { "" };
            Ok(Value::from(Tuple::from([before, separator, after.unwrap_or_default()].map(Value::from))))
        }
        "rpartition" => {
            let (separator,) = from_args(args)?;
            let (before, after) =
                text.rsplit_once(filled(separator)?).map_or((None, text), |(b, a)| (Some(b), a));
            let separator = if before.is_some() { separator } else { "" };
            Ok(Value::from(Tuple::from([before.unwrap_or_default(), separator, after].map(Value::from))))
        }
        "rsplit" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
            let pieces = most
                .and_then(|most| usize::try_from(most).ok())
                .map_or(usize::MAX, |most| most.saturating_add(1));
            Ok(match separator {
                Some(separator) => {
                    let mut split: Vec<_> = text.rsplitn(pieces, filled(separator)?).collect();
                    split.reverse();
                    split.into_iter().map(Value::from).collect()
                }
                None => rsplit_whitespace(text, pieces).into_iter().map(Value::from).collect(),
            })
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// Refuses a separator that is everywhere.
fn filled(separator: &str) -> Result<&str, Error> {
    if separator.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    Ok(separator)
}

/// Splits at runs of whitespace from the end, into at most `pieces`.
fn rsplit_whitespace(text: &str, pieces: usize) -> Vec<&str> {
    let mut split = Vec::new();
    let mut rest = text.trim_end();
    while !rest.is_empty() {
        let word = if split.len() + 1 == pieces {
            0
        } else {
            rest.rfind(char::is_whitespace)
                .map_or(0, |at| at + rest[at..].chars().next().map_or(0, char::len_utf8))
        };
        split.push(&rest[word..]);
        rest = rest[..word].trim_end();
    }
    split.reverse();
    split
}
