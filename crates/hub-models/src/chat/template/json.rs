//! The `tojson` filter of `transformers`: Python's `json.dumps`, without HTML escapes.

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Kwargs, Rest, ValueKind, ValueOrKwargs, from_args},
};

use super::{MAX_DEPTH, MAX_OUTPUT_BYTES, python};

/// Writes a value as JSON: `tojson(value, ensure_ascii=false, indent=none, separators=none, sort_keys=false)`.
pub(super) fn tojson(state: &State, value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let args = args.into_values();
    let (ascii, indent, separators, sort_keys, kwargs): (
        Option<Value>,
        Option<Value>,
        Option<Value>,
        Option<Value>,
        Kwargs,
    ) = from_args(&args)?;
    let argument = |given: Option<Value>, name: &str| -> Result<Option<Value>, Error> {
        let given = match given {
            Some(value) => Some(value),
            None => kwargs.get(name)?,
        };
        Ok(given.filter(|value| !value.is_none() && !value.is_undefined()))
    };
    let is_set = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let ascii = is_set(argument(ascii, "ensure_ascii")?);
    let sort_keys = is_set(argument(sort_keys, "sort_keys")?);
    let indent = argument(indent, "indent")?.map(|indent| indentation(&indent)).transpose()?;
    let separators = argument(separators, "separators")?;
    kwargs.assert_all_used()?;

    // With an indent, a line break follows each item, so no space does.
    let default = if indent.is_some() { "," } else { ", " };
    let [between, after_key] = match separators {
        Some(pair) => [separator(&pair, 0)?, separator(&pair, 1)?],
        None => [default.to_owned(), ": ".to_owned()],
    };
    let mut writer = Writer { text: String::new(), ascii, indent, between, after_key, sort_keys };
    writer.value(value, 0)?;
    python::charge(state, writer.text.len())?;
    Ok(writer.text)
}

/// Reads `indent`, which is a number of spaces or a text.
fn indentation(indent: &Value) -> Result<String, Error> {
    if let Some(text) = indent.as_str() {
        return Ok(text.to_owned());
    }
    // To Python `true` is the number 1, and a negative number of spaces is none.
    let spaces = if indent.kind() == ValueKind::Bool {
        i64::from(indent.is_true())
    } else {
        i64::try_from(indent.clone())?
    };
    let spaces = usize::try_from(spaces.max(0)).unwrap_or(usize::MAX);
    if spaces > MAX_OUTPUT_BYTES { Err(python::too_long()) } else { Ok(" ".repeat(spaces)) }
}

fn separator(pair: &Value, index: usize) -> Result<String, Error> {
    let separator = pair.get_item_by_index(index)?;
    let text = separator.as_str().filter(|_| pair.len() == Some(2));
    text.map(str::to_owned)
        .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "separators must be two strings"))
}

struct Writer {
    text: String,
    ascii: bool,
    indent: Option<String>,
    between: String,
    after_key: String,
    sort_keys: bool,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(python::too_long());
        }
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self.text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.text.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                self.text.push('[');
                let mut is_empty = true;
                for item in value.try_iter()? {
                    self.next(is_empty, depth)?;
                    is_empty = false;
                    self.value(&item, depth + 1)?;
                }
                self.close(']', is_empty, depth)?;
            }
            ValueKind::Map => {
                self.text.push('{');
                let mut is_empty = true;
                for (name, value) in self.fields(value)? {
                    self.next(is_empty, depth)?;
                    is_empty = false;
                    self.string(&name);
                    self.text.push_str(&self.after_key);
                    self.value(&value, depth + 1)?;
                }
                self.close('}', is_empty, depth)?;
            }
            _ if python::is_extreme(value) => self.text.push_str(&value.to_string()),
            kind => return Err(not_json(kind)),
        }
        Ok(())
    }

    fn fields(&self, map: &Value) -> Result<Vec<(String, Value)>, Error> {
        let mut fields = Vec::new();
        for key in map.try_iter()? {
            let name = match key.kind() {
                ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
                ValueKind::None => "null".to_owned(),
                ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_owned(),
                ValueKind::Number => number(&key),
                kind => return Err(not_json(kind)),
            };
            fields.push((name, map.get_item(&key)?));
        }
        if self.sort_keys {
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
        Ok(fields)
    }

    /// Goes to the place of the next item.
    fn next(&mut self, is_first: bool, depth: usize) -> Result<(), Error> {
        if !is_first {
            self.text.push_str(&self.between);
        }
        self.new_line(depth + 1)
    }

    fn close(&mut self, bracket: char, is_empty: bool, depth: usize) -> Result<(), Error> {
        if !is_empty {
            self.new_line(depth)?;
        }
        self.text.push(bracket);
        Ok(())
    }

    /// Begins a line, if there are lines.
    fn new_line(&mut self, depth: usize) -> Result<(), Error> {
        let indent = self.indent.as_deref();
        if self.text.len() + indent.map_or(0, str::len).saturating_mul(depth) > MAX_OUTPUT_BYTES {
            return Err(python::too_long());
        }
        if let Some(indent) = indent {
            self.text.push('\n');
            for _ in 0..depth {
                self.text.push_str(indent);
            }
        }
        Ok(())
    }

    fn string(&mut self, string: &str) {
        self.text.push('"');
        for char in string.chars() {
            match char {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                char if char < ' ' || (self.ascii && !(' '..='~').contains(&char)) => self.escape(char),
                char => self.text.push(char),
            }
        }
        self.text.push('"');
    }

    fn escape(&mut self, char: char) {
        for unit in char.encode_utf16(&mut [0; 2]) {
            self.text.push_str(&format!("\\u{unit:04x}"));
        }
    }
}

fn number(value: &Value) -> String {
    match python::number(value).as_str() {
        "nan" => "NaN".to_owned(),
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        text => text.to_owned(),
    }
}

fn not_json(kind: ValueKind) -> Error {
    Error::new(ErrorKind::BadSerialization, format!("a value of type {kind} cannot be written as JSON"))
}
