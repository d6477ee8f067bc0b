//! Which key of a configuration contradicts the tensors: the one that makes a model of them once it is changed.
//!
//! A mistake shows in a tensor that does not fit, far from where it was made. So each key that could have caused it is
//! given values that the tensors suggest, and the model is read again: where everything fits then, that key was it.

use std::collections::HashSet;

use hub_nn::{
    spec::{ModelSpec, SpecError},
    weights::{Format, Metadata, Value as Number, Weights},
};
use serde_json::{Value, json};

use crate::{Error, family};

/// How often a model is read again at most.
const MAX_TRIALS: usize = 256;
/// No width, number or length of a model is so large.
const ABSURD: u64 = 1 << 24;
/// What widths and numbers of models are most often, and some that tiny ones have.
const USUAL: [u64; 24] =
    [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128, 192, 256, 512, 1024];
/// Keys that derive from others where they are left out, and switches that are off.
const LEFT_OUT: [&str; 5] =
    ["attention_bias", "head_dim", "mlp_bias", "num_key_value_heads", "tie_word_embeddings"];

/// A key that may be wrong.
struct Field {
    /// Where it lies.
    path: Vec<String>,
    /// What it says; null if it is left out.
    value: Value,
    /// The whole number that was read for it.
    used: Option<u64>,
}

/// What the files say beside their tensors, and how often it may still be read.
struct Trials<'a> {
    weights: &'a Weights,
    config: Option<&'a Value>,
    left: usize,
}

/// Returns an error that names the key that contradicts the tensors, if there is one such key.
pub(crate) fn explain(weights: &Weights, config: Option<&Value>, error: SpecError) -> Error {
    let mut fields = match (weights.format(), config) {
        (Format::Gguf, _) => fields_of_metadata(weights.metadata()),
        (Format::Safetensors, Some(config)) => fields_of_config(config),
        (Format::Safetensors, None) => return error.into(),
    };
    let mut trials = Trials { weights, config, left: MAX_TRIALS };
    // What fits is not at fault: parts that other files put behind the model are.
    if trials.fits_as_it_is() {
        return error.into();
    }
    // What the error speaks of comes first.
    let numbers = numbers_of(&error);
    fields.sort_by_key(|field| !field.used.is_some_and(|used| numbers.contains(&used)));
    let mut influential = Vec::new();
    for field in &fields {
        let fits = trials.candidates(field, &fields, &error);
        if matches!(error, SpecError::Shape { .. } | SpecError::Parts { .. })
            && field.used.is_some()
            && !fits.is_empty()
        {
            influential.push(field);
        }
        if let Some(fits) = fits.into_iter().find(|value| trials.fits(field, value)) {
            return contradiction(field, Some(fits), error);
        }
    }
    match (influential.as_slice(), &error) {
        // Where no value makes it right alone, the only key that has a say is still worth a look.
        ([field], _) => contradiction(field, None, error),
        (_, SpecError::Inconsistent { .. }) => {
            let is_absurd = |used: u64| used == 0 || used >= ABSURD;
            match fields.iter().find(|field| field.used.is_some_and(is_absurd)) {
                Some(field) => contradiction(field, None, error),
                None => error.into(),
            }
        }
        _ => error.into(),
    }
}

fn contradiction(field: &Field, fits: Option<Value>, source: SpecError) -> Error {
    // Of a number that can never be, it does not matter which one would do.
    let fits = fits.filter(|_| !matches!(source, SpecError::Inconsistent { .. }));
    let is_left_out = field.value.is_null();
    Error::Contradiction {
        field: field.path.last().cloned().unwrap_or_default(),
        value: if is_left_out { "left out".to_owned() } else { format!("{}", field.value) },
        fits: fits.map(|fits| format!(", and {fits} would fit the tensors")).unwrap_or_default(),
        contradicts: Box::new(source),
    }
}

impl Trials<'_> {
    /// Returns what a key could say instead.
    fn candidates(&mut self, field: &Field, fields: &[Field], error: &SpecError) -> Vec<Value> {
        let name = field.path.last().map_or("", String::as_str);
        let mut values = match (&field.value, error) {
            (Value::Bool(value), _) => vec![json!(!value)],
            (Value::Null, _) if field.used.is_none() => {
                let mut values = vec![json!(true), json!(false)];
                if let SpecError::Shape { expected, found, .. } = error {
                    values.extend(quotients(expected, found, fields));
                }
                values
            }
            (_, SpecError::Shape { name, expected, found }) => {
                self.of_shape(field, fields, name, &numbers_in(expected), found)
            }
            (_, SpecError::Parts { name, .. }) => match self.is_part_of(field, name) {
                true => USUAL.into_iter().map(Value::from).collect(),
                false => Vec::new(),
            },
            (_, SpecError::Inconsistent { .. }) => {
                let lengths = self.weights.shapes().take(8).flat_map(|(_, shape)| shape.iter());
                let lengths = lengths.map(|length| json!(length));
                USUAL.into_iter().map(Value::from).chain([json!(10_000)]).chain(lengths).collect()
            }
            _ => {
                let counts =
                    [count_of(self.weights, "layers", "blk"), count_of(self.weights, "experts", "experts")];
                (0..5).chain([8]).chain(counts).map(Value::from).collect()
            }
        };
        if matches!(error, SpecError::Inconsistent { .. }) && name.contains("factor") {
            values.extend([0.25, 0.5, 0.75].map(Value::from));
        }
        values.retain(|value| *value != field.value);
        values
    }

    /// Returns what a key could say instead that a tensor's shape depends on; nothing if it does not.
    ///
    /// Lengths grow evenly with most keys. A tensor may hold two such parts, or another beside one.
    fn of_shape(
        &mut self,
        field: &Field,
        fields: &[Field],
        name: &str,
        expected: &[u64],
        found: &[usize],
    ) -> Vec<Value> {
        let Some(used) = field.used.filter(|used| *used < 1 << 40) else { return Vec::new() };
        // Twice as much keeps what divides it.
        let step = used.max(2);
        let Some(spec) = self.read(field, &json!(used + step)) else { return Vec::new() };
        let uses = spec.tensors();
        let Some(grown) = uses.iter().find(|used| used.tensor.name == name) else { return Vec::new() };
        let grown = numbers_in(&grown.shape());
        let mut wanted = Vec::new();
        for ((before, after), found) in expected.iter().zip(&grown).rev().zip(found.iter().rev()) {
            let Some(grown) = after.checked_sub(*before).filter(|grown| *grown > 0) else { continue };
            let found = *found as u64;
            if found == *before {
                continue;
            }
            let beside =
                fields.iter().filter_map(|other| found.checked_sub(other.used.filter(|used| *used > 1)?));
            for length in [found, found / 2].into_iter().chain(beside) {
                let missing = i128::from(length) - i128::from(*before);
                let change = missing * i128::from(step) / i128::from(grown);
                wanted.extend(u64::try_from(i128::from(used) + change));
            }
        }
        if !wanted.is_empty() {
            wanted.extend(USUAL);
        }
        let mut seen = HashSet::new();
        wanted.into_iter().filter(|value| seen.insert(*value)).map(Value::from).collect()
    }

    /// Tells whether it depends on a key which rows of a tensor are used.
    fn is_part_of(&mut self, field: &Field, name: &str) -> bool {
        let Some(used) = field.used.filter(|used| *used < 1 << 40) else { return false };
        let mut parts = |value: u64| {
            let spec = self.read(field, &json!(value))?;
            let uses = spec.tensors().into_iter().filter(|used| used.tensor.name == name);
            Some(uses.map(|used| used.tensor.rows).collect::<Vec<_>>())
        };
        match (parts(used), parts(used + used.max(2))) {
            (Some(before), Some(after)) => before != after,
            _ => false,
        }
    }

    /// Tells whether the tensors are those of the model if a key says something else.
    fn fits(&mut self, field: &Field, value: &Value) -> bool {
        self.read(field, value).is_some_and(|spec| self.is_of_tensors(&spec))
    }

    fn fits_as_it_is(&self) -> bool {
        family::spec_of(self.weights, self.config).is_ok_and(|spec| self.is_of_tensors(&spec))
    }

    fn is_of_tensors(&self, spec: &ModelSpec) -> bool {
        spec.check().is_ok() && spec.check_tensors(self.weights.shapes()).is_ok()
    }

    /// Reads the model with another value; `None` if that is refused, or it was read often enough.
    fn read(&mut self, field: &Field, value: &Value) -> Option<ModelSpec> {
        self.left = self.left.checked_sub(1)?;
        let (last, above) = field.path.split_last()?;
        let spec = match self.config {
            Some(config) => {
                let mut config = config.clone();
                let place = above.iter().try_fold(&mut config, |at, key| at.get_mut(key))?;
                place.as_object_mut()?.insert(last.clone(), value.clone());
                family::spec_of(self.weights, Some(&config))
            }
            None => {
                let mut metadata = self.weights.metadata().clone();
                match value.as_bool() {
                    Some(value) => metadata.insert(last, value),
                    None => metadata.insert(last, value.as_u64()?),
                };
                family::spec_of_metadata(self.weights, &metadata)
            }
        };
        spec.ok()
    }
}

fn fields_of_metadata(metadata: &Metadata) -> Vec<Field> {
    let is_of_layers = |key: &str| !["general.", "tokenizer."].iter().any(|part| key.starts_with(part));
    let own = metadata.iter().filter(|(key, _)| is_of_layers(key));
    let field = |(key, value): (&str, &Number)| {
        let used = value.as_u64();
        let value = match value {
            Number::Bool(value) => json!(value),
            _ => json!(used?),
        };
        Some(Field { path: vec![key.to_owned()], value, used })
    };
    own.filter_map(field).collect()
}

/// Lists the numbers and switches of a configuration, and those that are left out.
fn fields_of_config(config: &Value) -> Vec<Field> {
    let mut fields = Vec::new();
    collect(config, &mut Vec::new(), &mut fields);
    let half = config.get("text_config").filter(|half| half.is_object());
    let own = half.unwrap_or(config);
    let place = half.map(|_| "text_config".to_owned());
    let defaults = family::defaults_of(own).into_iter().map(|(key, value)| (key, value.as_u64()));
    let switches = LEFT_OUT.into_iter().map(|key| (key, None));
    for (key, used) in defaults.chain(switches).filter(|(key, _)| own.get(key).is_none()) {
        let path = place.iter().cloned().chain([key.to_owned()]).collect();
        fields.push(Field { path, value: Value::Null, used });
    }
    fields
}

/// Collects the keys of an object and of those in it.
fn collect(value: &Value, path: &mut Vec<String>, fields: &mut Vec<Field>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        if key.ends_with("_token_id") {
            continue;
        }
        path.push(key.clone());
        match value {
            Value::Object(_) => collect(value, path, fields),
            Value::Bool(_) | Value::Number(_) | Value::Null => {
                fields.push(Field { path: path.clone(), value: value.clone(), used: value.as_u64() });
            }
            Value::String(_) | Value::Array(_) => {}
        }
        path.pop();
    }
}

/// Returns by what other keys have to be multiplied to give a length that a tensor has.
fn quotients(expected: &str, found: &[usize], fields: &[Field]) -> Vec<Value> {
    let expected = numbers_in(expected);
    let wrong = expected.iter().rev().zip(found.iter().rev()).find(|(own, other)| **own != **other as u64);
    let Some((_, found)) = wrong else { return Vec::new() };
    let found = *found as u64;
    let others = fields.iter().filter_map(|other| other.used).filter(|other| *other > 1);
    let mut values: Vec<u64> =
        others.filter(|other| found.is_multiple_of(*other)).map(|other| found / other).collect();
    values.sort_unstable();
    values.dedup();
    values.into_iter().map(Value::from).collect()
}

/// Counts the layers or experts that tensors name: the number behind one of two words.
fn count_of(weights: &Weights, word: &str, other: &str) -> u64 {
    let number = |name: &str| {
        let mut parts = name.split('.').skip_while(|part| *part != word && *part != other).skip(1);
        parts.next()?.parse::<u64>().ok()
    };
    weights.names().filter_map(number).max().map_or(0, |last| last.saturating_add(1))
}

/// Returns the numbers that an error speaks of.
fn numbers_of(error: &SpecError) -> Vec<u64> {
    match error {
        SpecError::Inconsistent { details, .. } => numbers_in(details),
        SpecError::Shape { expected, .. } => numbers_in(expected),
        _ => Vec::new(),
    }
}

fn numbers_in(text: &str) -> Vec<u64> {
    text.split(|letter: char| !letter.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}
