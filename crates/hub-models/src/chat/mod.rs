//! Conversations, and the templates that turn them into the text a model reads.
//!
//! ```
//! use std::time::SystemTime;
//!
//! use hub_models::chat::{Message, RenderOptions, Template, TemplateTokens};
//!
//! let source = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}";
//! let template = Template::compile(source, TemplateTokens::new([("eos_token", "</s>")]))?;
//! let text = template.render(&[Message::user("Xin chào")], &RenderOptions::new(SystemTime::now()))?;
//! assert_eq!(text, "<|user|>Xin chào</s>");
//! # Ok::<(), hub_models::chat::TemplateError>(())
//! ```

mod harmony;
mod known;
mod template;
mod thinking;
mod typed;

use serde::{Deserialize, Serialize};

pub(crate) use harmony::{Harmony, HarmonyTokens};
pub(crate) use known::mistral_template;
pub(crate) use thinking::{Split, Thinking};
pub(crate) use typed::{TypedControls, pieces};

pub use known::known_template;
pub use template::{PromptEnd, RenderOptions, Template, TemplateError, TemplateTokens};

/// Who says something in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Standing instructions.
    System,
    /// Standing instructions, as newer OpenAI clients name them.
    Developer,
    /// The person who asks.
    User,
    /// The model.
    Assistant,
    /// The result of a tool that the model called.
    Tool,
}

impl Role {
    /// Returns the name that templates know the role by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; the text parts of a message in several parts, joined.
    pub content: String,
    /// Which of several speakers of the same role.
    pub name: Option<String>,
    /// What the model thought before it answered.
    pub reasoning: Option<String>,
}

impl Message {
    /// Makes a message of any role.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), name: None, reasoning: None }
    }

    /// Makes standing instructions.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new(Role::System, content)
    }

    /// Makes a question.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }

    /// Makes an answer of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(Role::Assistant, content)
    }

    /// Names the speaker.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Adds what the model thought before it answered.
    pub fn reasoning(mut self, reasoning: impl Into<String>) -> Self {
        self.reasoning = Some(reasoning.into());
        self
    }
}
