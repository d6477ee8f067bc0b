use hub::{
    Caller, ChatReply, ChatRequest, Hub,
    models::{ChatPrompt, Delta, FinishReason, Prompt, Usage, chat::Message},
};
use hub_base::{ModelId, Task};

use super::{
    server::{Lines, Server},
    settings::Settings,
};
use crate::{failure::Failure, progress::ProgressLine};

/// Who answers.
pub(super) enum Backend<'a> {
    /// This process.
    Hub(&'a Hub),
    /// A server.
    Server(Server),
}

/// What is asked.
pub(super) enum Asked {
    /// A text, which goes through the model's chat template if it has one.
    Question(String),
    /// A conversation, which needs a chat template.
    Conversation(Vec<Message>),
}

/// What a conversation says of the model it is held with.
pub(super) struct Ready {
    pub(super) name: String,
    /// The longest sequence it serves, and the longest it was made for, where they are known.
    pub(super) context: Option<(usize, usize)>,
}

/// A part of an answer.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) reasoning: String,
    pub(super) finish: Option<&'static str>,
    pub(super) usage: Option<Usage>,
}

/// An answer while it comes.
pub(super) enum Pieces {
    Hub(Box<ChatReply>),
    Server(Box<Lines>),
}

impl Backend<'_> {
    /// Loads a model if it is not in memory, and shows how far that has come.
    pub(super) async fn load(&self, model: &str, settings: &Settings) -> Result<Ready, Failure> {
        match self {
            Self::Hub(hub) => {
                let progress = ProgressLine::new();
                let installed = hub.load(model, Task::Chat, None, progress.sink()).await?;
                drop(progress);
                let loaded = hub.loaded().into_iter().find(|loaded| loaded.name == installed.name);
                let made_for = installed.context_tokens as usize;
                let context = loaded.map(|loaded| (loaded.context_tokens, made_for));
                Ok(Ready { name: installed.name.to_string(), context })
            }
            Self::Server(server) => server.load(model, settings).await,
        }
    }

    pub(super) async fn ask(
        &self,
        model: &str,
        asked: Asked,
        settings: &Settings,
    ) -> Result<Pieces, Failure> {
        match self {
            Self::Hub(hub) => {
                let request = ChatRequest::new(model, prompt(asked, settings))
                    .options(settings.options())
                    .caller(Caller::new("run"));
                Ok(Pieces::Hub(Box::new(hub.chat(request).await?)))
            }
            Self::Server(server) => Ok(Pieces::Server(Box::new(server.ask(model, asked, settings).await?))),
        }
    }
}

fn prompt(asked: Asked, settings: &Settings) -> Prompt {
    let kwargs = settings.template_kwargs();
    match asked {
        Asked::Question(text) if kwargs.is_empty() => Prompt::Question(text),
        Asked::Question(text) => {
            Prompt::Chat(ChatPrompt::new(vec![Message::user(text)]).template_kwargs(kwargs))
        }
        Asked::Conversation(messages) => Prompt::Chat(ChatPrompt::new(messages).template_kwargs(kwargs)),
    }
}

impl Pieces {
    /// Returns the model that answers, once it is known.
    pub(super) fn model(&self) -> Option<ModelId> {
        match self {
            Self::Hub(reply) => Some(reply.model().clone()),
            Self::Server(lines) => lines.model(),
        }
    }

    pub(super) async fn next(&mut self) -> Option<Result<Piece, Failure>> {
        match self {
            Self::Hub(reply) => Some(reply.next().await?.map(Piece::from).map_err(Failure::from)),
            Self::Server(lines) => lines.next().await,
        }
    }
}

impl From<Delta> for Piece {
    fn from(delta: Delta) -> Self {
        let finish = delta.finish.map(|reason| match reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        });
        Self { text: delta.text, reasoning: delta.reasoning, finish, usage: delta.usage }
    }
}
