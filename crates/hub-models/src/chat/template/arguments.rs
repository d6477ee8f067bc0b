//! What a template gets to read.

use std::{collections::BTreeMap, time::SystemTime};

use minijinja::{Error, Value as Rendered};
use serde_json::{Map, Number, Value};

use super::{PromptEnd, RenderOptions, TemplateError, python, strftime};

/// Names under which a message's reasoning is known. The first is the one most templates read.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// Names that a caller's keyword arguments may not hide.
const RESERVED: [&str; 6] =
    ["messages", "tools", "documents", "add_generation_prompt", "strftime_now", "raise_exception"];

/// Returns the names a template reads, all of them.
pub(super) fn context(
    messages: &[Value],
    tokens: &BTreeMap<String, String>,
    options: &RenderOptions,
) -> Result<Rendered, TemplateError> {
    if let Some(name) = options.kwargs.keys().find(|name| RESERVED.contains(&name.as_str())) {
        return Err(TemplateError::Reserved { name: name.clone() });
    }
    let mut names: BTreeMap<&str, Rendered> = BTreeMap::new();
    names.extend(tokens.iter().map(|(name, text)| (name.as_str(), Rendered::from(text.as_str()))));
    names.extend(options.kwargs.iter().map(|(name, value)| (name.as_str(), rendered(value))));
    names.insert("messages", messages.iter().map(rendered).collect());
    // Without tools and documents these names are `none`, which is not the same as undefined.
    names.insert("tools", rendered(options.tools.as_ref().unwrap_or(&Value::Null)));
    names.entry("documents").or_insert_with(|| rendered(&Value::Null));
    names.insert("add_generation_prompt", (options.end == PromptEnd::AssistantTurn).into());
    names.insert("strftime_now", clock(options.now));
    Ok(Rendered::from_pairs(names))
}

/// Gives a message the form that templates expect: no fields that are null, and reasoning under the names that
/// templates read.
///
/// Source: `_normalize_chat_messages` and `_alias_reasoning_fields` of `transformers` 5.24.0.
pub(super) fn message(message: Value) -> Value {
    let Value::Object(mut fields) = message else { return message };
    fields.retain(|_, value| !value.is_null());
    let Some(reasoning) = REASONING.iter().find_map(|name| fields.get(*name)).cloned() else {
        return Value::Object(fields);
    };
    // The order shows where a template prints a whole message.
    let mut aliased = Map::new();
    aliased.insert("thinking".to_owned(), reasoning.clone());
    aliased.extend(fields);
    aliased.insert("reasoning_content".to_owned(), reasoning);
    Value::Object(aliased)
}

/// Makes the function that tells a template the time.
fn clock(now: SystemTime) -> Rendered {
    Rendered::from_function(move |format: String| -> Result<String, Error> { strftime::format(now, &format) })
}

fn rendered(value: &Value) -> Rendered {
    match value {
        Value::Null => Rendered::from(()),
        Value::Bool(value) => Rendered::from(*value),
        Value::Number(number) => rendered_number(number),
        Value::String(text) => Rendered::from(text.as_str()),
        Value::Array(items) => items.iter().map(rendered).collect(),
        Value::Object(fields) => {
            Rendered::from_pairs(fields.iter().map(|(name, value)| (name.as_str(), rendered(value))))
        }
    }
}

fn rendered_number(number: &Number) -> Rendered {
    if let Some(number) = number.as_u64() {
        Rendered::from(number)
    } else if let Some(number) = number.as_i64() {
        Rendered::from(number)
    } else {
        number.as_f64().map_or_else(|| Rendered::from(()), python::float_value)
    }
}
