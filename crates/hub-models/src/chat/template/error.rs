use std::error::Error as _;

use hub_base::ErrorKind;

/// What can go wrong with a chat template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// It is not a template.
    #[error("the chat template is damaged at line {line}: {message}")]
    Syntax {
        /// Where, counted from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The template refuses the conversation, in its own words.
    #[error("the chat template refuses this conversation: {message}")]
    Raised {
        /// What it says.
        message: String,
    },
    /// The template does not come to an end, or writes without bound.
    #[error("the chat template does too much work for this conversation: shorten it, or mend the template")]
    TooMuchWork,
    /// A keyword argument hides an argument that the template always gets.
    #[error("`{name}` cannot be an argument of the chat template: it is set by the request itself")]
    Reserved {
        /// The argument.
        name: String,
    },
    /// The template does something with this conversation that cannot be done.
    #[error("the chat template cannot render this conversation, at line {line}: {message}")]
    Render {
        /// Where, counted from 1; 0 if it cannot be told.
        line: usize,
        /// What it tried.
        message: String,
    },
}

impl TemplateError {
    /// Classifies the error for frontends.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Syntax { .. } => ErrorKind::Corrupt,
            Self::Raised { .. } | Self::Reserved { .. } | Self::Render { .. } => ErrorKind::InvalidInput,
            Self::TooMuchWork => ErrorKind::Unsupported,
        }
    }

    pub(super) fn syntax(error: &minijinja::Error) -> Self {
        Self::Syntax { line: error.line().unwrap_or(0), message: message_of(error) }
    }

    pub(super) fn render(error: &minijinja::Error) -> Self {
        // Where blocks and macros call each other, each level wraps the error of the one below.
        let mut innermost = error;
        let mut source = error.source();
        while let Some(cause) = source {
            if let Some(Raised(message)) = cause.downcast_ref() {
                return Self::Raised { message: message.clone() };
            }
            if let Some(error) = cause.downcast_ref() {
                innermost = error;
            }
            source = cause.source();
        }
        match innermost.kind() {
            minijinja::ErrorKind::OutOfFuel => Self::TooMuchWork,
            // The engine has no kind of its own for its limit on nesting.
            _ if innermost.detail() == Some("recursion limit exceeded") => Self::TooMuchWork,
            _ => Self::Render { line: error.line().unwrap_or(0), message: message_of(innermost) },
        }
    }
}

fn message_of(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

/// What a template passed to `raise_exception`, carried through the engine.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Raised(pub(super) String);
