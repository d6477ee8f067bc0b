//! The fields of a request's body.

mod idle;
mod notes;
mod values;

pub(crate) use idle::{Idle, Unserved};
pub(crate) use notes::Notes;

use std::{fmt::Display, ops::RangeInclusive};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;

use crate::error::ApiError;
use values::{in_words, kind_of, whole};

/// A JSON object of a request, taken apart field by field.
///
/// Every error names the field by its whole path (`messages[0].content`), and [`finish`](Self::finish) refuses what
/// nobody took, so that no field is ever ignored. A field that is `null` counts as absent, as OpenAI's clients
/// write it.
///
/// What is asked of an [`example`](Self::example) is noted: the schema of a request is what its parser asks for.
#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
    path: String,
    notes: Option<Notes>,
    /// Held while a large body is taken apart.
    _turn: Option<OwnedSemaphorePermit>,
}

/// A text, or objects to be taken apart one by one.
#[derive(Debug)]
pub(crate) enum TextOrObjects {
    /// A text.
    Text(String),
    /// Objects.
    Objects(Vec<Fields>),
}

impl Fields {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// 400 if it is not a JSON object.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let bad = |message: String| ApiError::new(axum::http::StatusCode::BAD_REQUEST, message);
        // Some programs begin every text so; it says nothing.
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self { map, path: String::new(), notes: None, _turn: None }),
            Ok(other) => Err(bad(format!("the body must be a JSON object, not {}", kind_of(&other)))),
            Err(error) => Err(bad(format!("the body is not valid JSON: {error}")).code("invalid_json")),
        }
    }

    /// Holds a turn until all fields are taken.
    pub(crate) fn during(self, turn: OwnedSemaphorePermit) -> Self {
        Self { _turn: Some(turn), ..self }
    }

    /// Reads an example of a body, and notes what is asked of it.
    pub(crate) fn example(map: Map<String, Value>, notes: Notes) -> Self {
        notes.object("");
        Self { map, path: String::new(), notes: Some(notes), _turn: None }
    }

    /// Returns the whole path of a field, for errors about it.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Takes a field of a known type.
    ///
    /// # Errors
    /// 400 if its value is of another type, or a number out of the type's range.
    pub(crate) fn take<T: DeserializeOwned + JsonSchema>(
        &mut self,
        name: &str,
    ) -> Result<Option<T>, ApiError> {
        self.note(name, notes::form_of::<T>);
        self.read(name)
    }

    /// Takes a field that must be there.
    ///
    /// # Errors
    /// 400 if it is missing, or as for [`take`](Self::take).
    pub(crate) fn require<T: DeserializeOwned + JsonSchema>(&mut self, name: &str) -> Result<T, ApiError> {
        let found = self.take(name)?;
        self.needed(name, found)
    }

    /// Returns what was found in a field that must be there.
    ///
    /// # Errors
    /// 400 if that is nothing.
    pub(crate) fn needed<T>(&self, name: &str, found: Option<T>) -> Result<T, ApiError> {
        if let Some(notes) = &self.notes {
            notes.needed(&self.path, &[name]);
        }
        found.ok_or_else(|| self.missing(name))
    }

    /// Returns what was found in a field or under its older name, one of which must be there.
    ///
    /// # Errors
    /// 400 if that is nothing.
    pub(crate) fn either<T>(&self, name: &str, older: &str, found: Option<T>) -> Result<T, ApiError> {
        if let Some(notes) = &self.notes {
            notes.needed(&self.path, &[name, older]);
        }
        found.ok_or_else(|| self.missing(name))
    }

    /// Takes a number that must lie within `range`.
    ///
    /// # Errors
    /// 400 if it is no number, or lies outside.
    pub(crate) fn number<T>(&mut self, name: &str, range: RangeInclusive<T>) -> Result<Option<T>, ApiError>
    where
        T: DeserializeOwned + JsonSchema + PartialOrd + Display,
    {
        self.note(name, || notes::range_of(&range));
        match self.read::<T>(name)? {
            Some(number) if !range.contains(&number) => {
                let path = self.path(name);
                let (least, most) = (range.start(), range.end().to_string());
                let message = if most == usize::MAX.to_string() {
                    format!("`{path}` must be at least {least}, not {number}")
                } else {
                    format!("`{path}` must be from {least} to {most}, not {number}")
                };
                Err(ApiError::invalid(path, message))
            }
            number => Ok(number),
        }
    }

    /// Takes a word, and returns what it stands for; one that stands for nothing is not served yet.
    ///
    /// # Errors
    /// 400 if it is none of the words, or is not served.
    pub(crate) fn word<T: Copy>(
        &mut self,
        name: &str,
        words: &[(&str, Option<T>)],
    ) -> Result<Option<T>, ApiError> {
        let served = || words.iter().filter(|(_, meaning)| meaning.is_some()).map(|(word, _)| *word);
        self.note(name, || serde_json::json!({ "type": "string", "enum": served().collect::<Vec<_>>() }));
        let Some(said) = self.read::<String>(name)? else { return Ok(None) };
        let path = self.path(name);
        match words.iter().find(|(word, _)| *word == said) {
            Some((_, Some(meaning))) => Ok(Some(*meaning)),
            Some((word, None)) => {
                let message = format!("`{path}` {word:?} is not served yet");
                Err(ApiError::invalid(path, message).code("unsupported_parameter"))
            }
            None => {
                let known = served().collect::<Vec<_>>().join(", ");
                let message = format!("`{path}` must be one of {known}, not {said:?}");
                Err(ApiError::invalid(path, message))
            }
        }
    }

    /// Takes an object, to be taken apart.
    ///
    /// # Errors
    /// 400 if it is none.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Self>, ApiError> {
        let path = self.path(name);
        self.note(name, || notes::object_at(&path));
        let Some(value) = self.value(name) else { return Ok(None) };
        self.nested(path, value).map(Some)
    }

    /// Takes an array of at least so many objects, to be taken apart one by one.
    ///
    /// # Errors
    /// 400 if it is none, or an element is no object.
    pub(crate) fn objects(&mut self, name: &str, least: usize) -> Result<Option<Vec<Self>>, ApiError> {
        let path = self.path(name);
        self.note(name, || notes::objects_at(&path, least));
        match self.value(name) {
            None => Ok(None),
            Some(Value::Array(list)) if list.len() < least => Err(ApiError::invalid(
                &path,
                format!("`{path}` must hold at least {least}, not {}", list.len()),
            )),
            Some(Value::Array(list)) => self.each(&path, list).map(Some),
            Some(other) => {
                Err(ApiError::invalid(&path, format!("`{path}` must be an array, not {}", kind_of(&other))))
            }
        }
    }

    /// Takes a text, or an array of objects.
    ///
    /// # Errors
    /// 400 if it is neither.
    pub(crate) fn text_or_objects(&mut self, name: &str) -> Result<Option<TextOrObjects>, ApiError> {
        let path = self.path(name);
        self.note(name, notes::form_of::<String>);
        self.note(name, || notes::objects_at(&path, 0));
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(TextOrObjects::Text(text))),
            Some(Value::Array(list)) => Ok(Some(TextOrObjects::Objects(self.each(&path, list)?))),
            Some(other) => {
                let kind = kind_of(&other);
                let message = format!("`{path}` must be a string or an array of parts, not {kind}");
                Err(ApiError::invalid(path, message))
            }
        }
    }

    /// Refuses every field that was not taken, unless it asks for nothing.
    ///
    /// # Errors
    /// 400 naming the first such field.
    pub(crate) fn finish(self, unserved: &[&[Unserved]]) -> Result<(), ApiError> {
        if let Some(notes) = &self.notes {
            notes.finished(&self.path, unserved);
        }
        for (name, value) in self.map.iter().filter(|(_, value)| !value.is_null()) {
            let path = self.path(name);
            match unserved.iter().copied().flatten().find(|field| field.name == name) {
                Some(field) if field.idle.is(value) => {}
                Some(_) => return Err(ApiError::unserved(path)),
                None => {
                    let message = format!("`{path}` is not a field of this request");
                    return Err(ApiError::invalid(path, message).code("unknown_parameter"));
                }
            }
        }
        Ok(())
    }

    /// Tells whether a field is there and was not taken.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !value.is_null())
    }

    /// Takes a field if it is exactly this.
    pub(crate) fn is(&mut self, name: &str, value: &Value) -> bool {
        self.note(name, || serde_json::json!({ "const": value }));
        self.map.get_mut(name).into_iter().for_each(whole);
        let is_so = self.map.get(name) == Some(value);
        if is_so {
            self.map.shift_remove(name);
        }
        is_so
    }

    /// Makes the error for a field that must be there.
    fn missing(&self, name: &str) -> ApiError {
        let path = self.path(name);
        let message = format!("`{path}` is missing");
        ApiError::invalid(path, message).code("missing_required_parameter")
    }

    /// Notes what a field may be, if anybody wants to know.
    fn note(&self, name: &str, form: impl FnOnce() -> Value) {
        if let Some(notes) = &self.notes {
            notes.may_be(&self.path, name, form());
        }
    }

    fn value(&mut self, name: &str) -> Option<Value> {
        // `swap_remove` would change the order in which unknown fields are reported.
        self.map.shift_remove(name).filter(|value| !value.is_null())
    }

    fn read<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(mut value) = self.value(name) else { return Ok(None) };
        whole(&mut value);
        serde_json::from_value(value).map(Some).map_err(|error| {
            let path = self.path(name);
            let message = format!("`{path}` cannot be read: {}", in_words(&error.to_string()));
            ApiError::invalid(path, message)
        })
    }

    fn each(&self, path: &str, list: Vec<Value>) -> Result<Vec<Self>, ApiError> {
        list.into_iter().enumerate().map(|(at, value)| self.nested(format!("{path}[{at}]"), value)).collect()
    }

    fn nested(&self, path: String, value: Value) -> Result<Self, ApiError> {
        match value {
            Value::Object(map) => {
                if let Some(notes) = &self.notes {
                    notes.object(&path);
                }
                Ok(Self { map, path, notes: self.notes.clone(), _turn: None })
            }
            other => {
                Err(ApiError::invalid(&path, format!("`{path}` must be an object, not {}", kind_of(&other))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields {
        Fields::parse(json.as_bytes()).unwrap()
    }

    #[track_caller]
    fn check_error(error: ApiError, expected: &str) {
        let text = String::from_utf8(error.envelope()).unwrap();
        assert!(text.contains(expected), "{text} does not contain {expected}");
    }

    #[test]
    fn null_is_absent() {
        let mut fields = fields(r#"{"seed": null, "other": null}"#);
        assert_eq!(fields.take::<u64>("seed").unwrap(), None);
        fields.finish(&[]).unwrap();
    }

    #[test]
    fn a_whole_number_is_whole_however_it_is_written() {
        assert_eq!(fields(r#"{"n": 16.0}"#).number("n", 1..=20).unwrap(), Some(16));
        assert_eq!(fields(r#"{"n": [1.0, 2]}"#).take::<Vec<u32>>("n").unwrap(), Some(vec![1, 2]));
        assert!(fields(r#"{"n": -1.0}"#).is("n", &Value::from(-1)));
        check_error(fields(r#"{"n": 1.5}"#).take::<u32>("n").unwrap_err(), "a whole number");
        check_error(fields(r#"{"n": 1e300}"#).take::<u64>("n").unwrap_err(), "a whole number");
        assert_eq!(fields(r#"{"t": 1.0}"#).take::<f32>("t").unwrap(), Some(1.0));
    }

    #[test]
    fn errors_name_the_field() {
        check_error(fields(r#"{"n": -1}"#).take::<u32>("n").unwrap_err(), r#""param":"n""#);
        check_error(fields(r#"{"t": 3.5}"#).number("t", 0.0..=2.0_f32).unwrap_err(), "from 0 to 2, not 3.5");
        check_error(fields(r#"{"t": 1e300}"#).number("t", 0.0..=2.0_f32).unwrap_err(), "not inf");
        check_error(fields("{}").require::<String>("model").unwrap_err(), "missing_required_parameter");
        check_error(fields(r#"{"surprise": 1}"#).finish(&[]).unwrap_err(), r#""code":"unknown_parameter""#);
        let mut messages =
            fields(r#"{"messages": [{}, {"odd": 1}]}"#).objects("messages", 1).unwrap().unwrap();
        check_error(messages.remove(1).finish(&[]).unwrap_err(), r#""param":"messages[1].odd""#);
    }

    #[test]
    fn an_unserved_field_is_refused_unless_it_asks_for_nothing() {
        let tools = [Unserved { name: "tools", idle: Idle::EmptyList }];
        fields(r#"{"tools": []}"#).finish(&[&tools]).unwrap();
        check_error(
            fields(r#"{"tools": [{}]}"#).finish(&[&tools]).unwrap_err(),
            r#""param":"tools","code":"unsupported_parameter""#,
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in [&b"[]"[..], b"", b"{", b"\"\xff\"", b"{\"a\": \"\xc3\"}", b"nul"] {
            assert_eq!(Fields::parse(body).unwrap_err().status(), axum::http::StatusCode::BAD_REQUEST);
        }
        let deep = "[".repeat(100_000);
        assert!(Fields::parse(deep.as_bytes()).is_err());
    }
}
