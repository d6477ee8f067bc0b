use serde_json::{Map, Value};

use crate::chat::Message;

/// What a model is asked to continue.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Prompt {
    /// A conversation, rendered by the model's own chat template.
    Chat(ChatPrompt),
    /// A text, taken as it is.
    Text(String),
    /// Tokens, taken as they are.
    Tokens(Vec<u32>),
    /// One question: a conversation for a model with a chat template, a text for any other.
    Question(String),
}

/// A conversation.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ChatPrompt {
    /// What was said so far, oldest first.
    pub messages: Vec<Message>,
    /// Further names the template may read: `enable_thinking`.
    pub template_kwargs: Map<String, Value>,
}

impl ChatPrompt {
    /// Begins with these messages.
    pub fn new(messages: Vec<Message>) -> Self {
        Self { messages, ..Self::default() }
    }

    /// Hands further names to the template.
    pub fn template_kwargs(mut self, kwargs: Map<String, Value>) -> Self {
        self.template_kwargs = kwargs;
        self
    }
}

impl From<&str> for Prompt {
    fn from(question: &str) -> Self {
        Self::Question(question.to_owned())
    }
}

impl From<String> for Prompt {
    fn from(question: String) -> Self {
        Self::Question(question)
    }
}

impl From<Vec<Message>> for Prompt {
    fn from(messages: Vec<Message>) -> Self {
        Self::Chat(ChatPrompt::new(messages))
    }
}
