//! The `messages` of a conversation.

use hub::models::chat::{Message, Role};

use crate::{
    error::ApiError,
    fields::{Fields, Idle, TextOrObjects, Unserved},
};

/// Fields of messages that are not served. Clients send an answer's whole message back, with these empty.
static UNSERVED: &[Unserved] = &[
    // lm-eval writes it to every message.
    Unserved { name: "type", idle: Idle::Words(&["text", "message"]) },
    Unserved { name: "tool_calls", idle: Idle::EmptyList },
    Unserved { name: "images", idle: Idle::EmptyList },
    Unserved { name: "tool_call_id", idle: Idle::Never },
    Unserved { name: "function_call", idle: Idle::Never },
    Unserved { name: "audio", idle: Idle::Never },
    Unserved { name: "refusal", idle: Idle::Words(&[""]) },
    Unserved { name: "annotations", idle: Idle::EmptyList },
];

/// Who may speak. What tools say is not served yet.
const ROLES: [(&str, Option<Role>); 6] = [
    ("system", Some(Role::System)),
    ("developer", Some(Role::Developer)),
    ("user", Some(Role::User)),
    ("assistant", Some(Role::Assistant)),
    ("tool", None),
    ("function", None),
];

/// The kinds of parts. All but texts are not served yet.
const PARTS: [(&str, Option<()>); 5] =
    [("text", Some(())), ("image_url", None), ("input_audio", None), ("file", None), ("refusal", None)];

/// Reads the objects of `messages`.
///
/// # Errors
/// 400 naming the message and the field at fault.
pub(crate) fn read(messages: Vec<Fields>) -> Result<Vec<Message>, ApiError> {
    messages.into_iter().map(read_message).collect()
}

fn read_message(mut fields: Fields) -> Result<Message, ApiError> {
    let role = fields.word("role", &ROLES)?;
    let role = fields.needed("role", role)?;
    // An answer that called tools says nothing itself; the calls are what cannot be read.
    if !fields.has("content") && fields.has("tool_calls") {
        return Err(ApiError::unserved(fields.path("tool_calls")));
    }
    let content = fields.text_or_objects("content")?;
    let content = match fields.needed("content", content)? {
        TextOrObjects::Text(text) => text,
        // Most chat templates know only texts, so parts are put together here.
        TextOrObjects::Objects(parts) => {
            parts.into_iter().map(read_part).collect::<Result<Vec<_>, _>>()?.join("\n")
        }
    };
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

fn read_part(mut fields: Fields) -> Result<String, ApiError> {
    let kind = fields.word("type", &PARTS)?;
    fields.needed("type", kind)?;
    let text = fields.require("text")?;
    fields.finish(&[])?;
    Ok(text)
}
