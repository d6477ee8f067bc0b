use std::{
    collections::BTreeMap,
    fmt::Display,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use schemars::{JsonSchema, Schema, transform::transform_subschemas};
use serde_json::{Map, Value, json};

use super::Unserved;
use crate::openapi::inline;

/// Marks the place of an object in the form of a field; what it holds is known when all examples are read.
const PLACE: &str = "$object";

/// What was asked of the examples of a body, by all objects in it: shared, so that nested ones add theirs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Arc<Mutex<BTreeMap<String, Object>>>);

/// An object of a body.
#[derive(Debug, Default)]
struct Object {
    /// Its fields, in the order they are asked for.
    fields: Vec<Field>,
    /// Names of which one must be there.
    needed: Vec<Vec<String>>,
    /// Whether other fields are refused.
    is_closed: bool,
}

#[derive(Debug)]
struct Field {
    name: String,
    /// Schemas, one of which must fit.
    forms: Vec<Value>,
    is_served: bool,
}

impl Notes {
    /// Notes that there is an object.
    pub(super) fn object(&self, path: &str) {
        self.lock().entry(pattern(path)).or_default();
    }

    /// Notes a form of a field.
    pub(super) fn may_be(&self, path: &str, name: &str, form: Value) {
        self.lock().entry(pattern(path)).or_default().add(name, form, true);
    }

    /// Notes that one of these fields must be there.
    pub(super) fn needed(&self, path: &str, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut objects = self.lock();
        let object = objects.entry(pattern(path)).or_default();
        if !object.needed.contains(&names) {
            object.needed.push(names);
        }
    }

    /// Notes that every other field is refused, except these with values that ask for nothing.
    pub(super) fn finished(&self, path: &str, unserved: &[&[Unserved]]) {
        let mut objects = self.lock();
        let object = objects.entry(pattern(path)).or_default();
        object.is_closed = true;
        for field in unserved.iter().copied().flatten() {
            if let Some(form) = field.idle.form() {
                object.add(field.name, form, false);
            }
        }
    }

    /// Returns the schema of the body.
    pub(crate) fn schema(&self) -> Value {
        let objects = self.lock();
        objects.get("").map_or_else(|| json!({ "type": "object" }), |body| body.schema(&objects))
    }

    /// Returns the names of all fields that are served, in all objects.
    #[cfg(test)]
    pub(crate) fn names(&self) -> Vec<String> {
        let objects = self.lock();
        let fields = objects.values().flat_map(|object| &object.fields).filter(|field| field.is_served);
        fields.map(|field| field.name.clone()).collect()
    }

    /// Returns the paths of objects that a field may be and that no example has.
    #[cfg(test)]
    pub(crate) fn unseen(&self) -> Vec<String> {
        let objects = self.lock();
        let forms = objects.values().flat_map(|object| &object.fields).flat_map(|field| &field.forms);
        let places = forms.filter_map(|form| form[PLACE].as_str().or_else(|| form["items"][PLACE].as_str()));
        places.filter(|path| !objects.contains_key(*path)).map(str::to_owned).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Object>> {
        // Notes are whole after every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Object {
    fn add(&mut self, name: &str, form: Value, is_served: bool) {
        match self.fields.iter_mut().find(|field| field.name == name) {
            // Served in one form, it is served; the other examples say the same again.
            Some(field) if field.forms.contains(&form) || (field.is_served && !is_served) => {}
            Some(field) => field.forms.push(form),
            None => self.fields.push(Field { name: name.to_owned(), forms: vec![form], is_served }),
        }
    }

    fn schema(&self, objects: &BTreeMap<String, Self>) -> Value {
        let is_needed = |name: &str| self.needed.iter().any(|names| names.len() == 1 && names[0] == name);
        let fields = self.fields.iter();
        let properties: Map<String, Value> =
            fields.map(|field| (field.name.clone(), field.schema(is_needed(&field.name), objects))).collect();
        let mut schema = json!({ "type": "object", "properties": properties });
        let (alone, among): (Vec<_>, Vec<_>) = self.needed.iter().partition(|names| names.len() == 1);
        if !alone.is_empty() {
            schema["required"] = alone.into_iter().flatten().cloned().collect();
        }
        if let Some(names) = among.first() {
            schema["anyOf"] = names
                .iter()
                .map(|name| json!({ "required": [name], "properties": { name: { "not": { "type": "null" } } } }))
                .collect();
        }
        if self.is_closed {
            schema["additionalProperties"] = false.into();
        }
        schema
    }
}

impl Field {
    fn schema(&self, is_needed: bool, objects: &BTreeMap<String, Object>) -> Value {
        let mut forms: Vec<Value> = self.forms.iter().map(|form| filled(form, objects)).collect();
        // A field without a form of its own may be anything.
        let is_free = forms.iter().any(|form| form == &json!({}));
        let mut schema = match forms.as_mut_slice() {
            _ if is_free => json!({}),
            [form] if is_needed => form.take(),
            [form] if form["type"].is_string() && form.get("enum").is_none() => {
                form["type"] = json!([form["type"], "null"]);
                form.take()
            }
            _ => {
                if !is_needed {
                    forms.push(json!({ "type": "null" }));
                }
                json!({ "anyOf": forms })
            }
        };
        let about = crate::openapi::meaning(&self.name).filter(|_| self.is_served);
        schema["description"] = about.unwrap_or(UNSERVED).into();
        schema
    }
}

/// What is said of a field that is not served.
const UNSERVED: &str =
    "Not served: accepted with the values that ask for nothing, and refused with any other.";

/// Puts what was asked of objects in their places.
fn filled(form: &Value, objects: &BTreeMap<String, Object>) -> Value {
    if let Some(path) = form[PLACE].as_str() {
        return objects
            .get(path)
            .map_or_else(|| json!({ "type": "object" }), |object| object.schema(objects));
    }
    let mut form = form.clone();
    if let Some(items) = form.get_mut("items") {
        *items = filled(items, objects);
    }
    form
}

/// Returns the form of an object.
pub(super) fn object_at(path: &str) -> Value {
    json!({ PLACE: pattern(path) })
}

/// Returns the form of an array of objects.
pub(super) fn objects_at(path: &str, least: usize) -> Value {
    let items = json!({ PLACE: format!("{}[]", pattern(path)) });
    if least == 0 {
        return json!({ "type": "array", "items": items });
    }
    json!({ "type": "array", "items": items, "minItems": least })
}

/// Returns the form of a type, whole numbers with their limits.
pub(super) fn form_of<T: JsonSchema>() -> Value {
    let mut schema = inline::<T>();
    limit(&mut schema);
    schema.to_value()
}

/// Returns the form of a number within limits.
pub(super) fn range_of<T: JsonSchema + Display>(range: &RangeInclusive<T>) -> Value {
    let mut form = form_of::<T>();
    // As text, because 0.01 is another number as `f32`.
    for (key, limit) in [("minimum", range.start().to_string()), ("maximum", range.end().to_string())] {
        if let Ok(limit) = limit.parse::<serde_json::Number>() {
            form[key] = limit.into();
        }
    }
    form
}

/// Adds the limits that a format says in a word.
fn limit(schema: &mut Schema) {
    let limits = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => Some((json!(0), json!(u8::MAX))),
        Some("uint32") => Some((json!(0), json!(u32::MAX))),
        Some("int64") => Some((json!(i64::MIN), json!(i64::MAX))),
        Some("uint64" | "uint") => Some((json!(0), json!(u64::MAX))),
        _ => None,
    };
    if let Some((least, most)) = limits {
        schema.remove("format");
        schema.insert("minimum".to_owned(), least);
        schema.insert("maximum".to_owned(), most);
    }
    transform_subschemas(&mut limit, schema);
}

/// Writes a path without the places in arrays: the elements of an array are alike.
fn pattern(path: &str) -> String {
    path.chars().filter(|c| !c.is_ascii_digit()).collect()
}
