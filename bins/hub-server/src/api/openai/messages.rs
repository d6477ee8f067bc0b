//! The `messages` of a conversation.

use hub::models::chat::{Message, Role};
use serde_json::Value;

use super::sampling::{is_empty_list, is_never};
use crate::{
    error::ApiError,
    fields::{Fields, Unserved, kind_of},
};

/// Fields of messages that are not served. Clients send an answer's whole message back, with these empty.
static UNSERVED: &[Unserved] = &[
    // lm-eval writes it to every message.
    Unserved { name: "type", asks_nothing: |value| value == "text" || value == "message" },
    Unserved { name: "tool_calls", asks_nothing: is_empty_list },
    Unserved { name: "images", asks_nothing: is_empty_list },
    Unserved { name: "tool_call_id", asks_nothing: is_never },
    Unserved { name: "function_call", asks_nothing: is_never },
    Unserved { name: "audio", asks_nothing: is_never },
    Unserved { name: "refusal", asks_nothing: |value| value == "" },
    Unserved { name: "annotations", asks_nothing: is_empty_list },
];

/// Takes `messages`.
///
/// # Errors
/// 400 naming the message and the field at fault.
pub(crate) fn take(fields: &mut Fields) -> Result<Vec<Message>, ApiError> {
    match fields.require_value("messages")? {
        Value::Array(list) if list.is_empty() => {
            Err(ApiError::invalid("messages", "`messages` must hold at least one message"))
        }
        Value::Array(list) => {
            let nested = |(at, value)| read_message(Fields::nested(format!("messages[{at}]"), value)?);
            list.into_iter().enumerate().map(nested).collect()
        }
        other => {
            let message = format!("`messages` must be an array, not {}", kind_of(&other));
            Err(ApiError::invalid("messages", message))
        }
    }
}

fn read_message(mut fields: Fields) -> Result<Message, ApiError> {
    let role_path = fields.path("role");
    let role = match fields.require::<String>("role")?.as_str() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        served_later @ ("tool" | "function") => {
            let message = format!("messages of the role `{served_later}` are not served yet");
            return Err(ApiError::invalid(role_path, message).code("unsupported_parameter"));
        }
        other => {
            let message =
                format!("`{role_path}` must be system, developer, user or assistant, not {other:?}");
            return Err(ApiError::invalid(role_path, message));
        }
    };
    let content_path = fields.path("content");
    let content = read_content(&content_path, fields.take_value("content"), &fields)?;
    let mut message = Message::new(role, content);
    message.name = fields.take("name")?;
    // The names under which thinking travels.
    for name in ["reasoning", "reasoning_content", "thinking"] {
        let thought = fields.take(name)?;
        message.reasoning = message.reasoning.or(thought);
    }
    fields.finish(&[UNSERVED])?;
    Ok(message)
}

/// Reads a text, or the text of parts: most chat templates know only texts, so parts are put together here.
fn read_content(path: &str, content: Option<Value>, message: &Fields) -> Result<String, ApiError> {
    match content {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => {
            let read = |(at, part)| read_part(Fields::nested(format!("{path}[{at}]"), part)?);
            let texts: Vec<String> = parts.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
            Ok(texts.join("\n"))
        }
        Some(other) => {
            let message = format!("`{path}` must be a string or an array of parts, not {}", kind_of(&other));
            Err(ApiError::invalid(path, message))
        }
        // An answer that called tools says nothing itself; the calls are what cannot be read.
        None if message.has("tool_calls") => Err(ApiError::unserved(message.path("tool_calls"))),
        None => Err(message.missing("content")),
    }
}

fn read_part(mut fields: Fields) -> Result<String, ApiError> {
    let kind: String = fields.require("type")?;
    match kind.as_str() {
        "text" => {
            let text = fields.require("text")?;
            fields.finish(&[])?;
            Ok(text)
        }
        "image_url" | "input_audio" | "file" | "refusal" => {
            let message = format!("content parts of the type `{kind}` are not served yet");
            Err(ApiError::invalid(fields.path("type"), message).code("unsupported_parameter"))
        }
        other => {
            let path = fields.path("type");
            Err(ApiError::invalid(&path, format!("`{path}` must be text, not {other:?}")))
        }
    }
}
