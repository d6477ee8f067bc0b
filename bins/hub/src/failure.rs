use std::{error::Error, io, path::PathBuf, process::ExitCode};

use hub_base::ErrorKind;
use serde_json::json;

/// Why a command failed, with the next step to take.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The hub says so.
    #[error(transparent)]
    Hub(Box<hub::Error>),
    /// The server says so.
    #[error(transparent)]
    Serve(Box<hub_server::Error>),
    /// No server to ask.
    #[error("no hub serves {}: start one with `hub serve`, or name one with --url", home.display())]
    NoServer {
        /// The home directory whose server was looked for.
        home: PathBuf,
    },
    /// The server does not answer.
    #[error("{url} does not answer: is `hub serve` running there?")]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What went wrong.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The server answers with an error.
    #[error("{url} answered {status}: {message}")]
    Refused {
        /// What was asked.
        url: String,
        /// The status of the answer.
        status: u16,
        /// What it says.
        message: String,
    },
    /// The server says so, and the answer was to be shown as it is.
    #[error("{message}")]
    Answered {
        /// The status of the answer.
        status: u16,
        /// What it says.
        message: String,
    },
    /// A value on the command line has no meaning.
    #[error("{message}")]
    Setting {
        /// What is wrong with it.
        message: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Standard input cannot be read.
    #[error("cannot read standard input")]
    Input(#[source] io::Error),
    /// The output cannot be written.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
    /// The terminal cannot be read.
    #[error("cannot read the terminal")]
    Terminal(#[source] rustyline::error::ReadlineError),
    /// The operating system gives no threads.
    #[error("cannot start")]
    Runtime(#[source] io::Error),
    /// No key of that name.
    #[error("there is no key `{asked}` to revoke: `hub keys list` shows them")]
    NoKey {
        /// What was asked for.
        asked: String,
    },
    /// The model has no chat template.
    #[error("{model} has no chat template")]
    NoTemplate {
        /// The model.
        model: String,
    },
    /// Nothing to work on.
    #[error("{what}: give it as an argument, or `-` to read standard input")]
    Nothing {
        /// What is missing.
        what: &'static str,
    },
    /// Something is wrong with the machine, as was said.
    #[error("something does not work; the lines above say what to do")]
    Unwell,
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

/// What shells expect of a program that was interrupted.
const INTERRUPTED: u8 = 130;
const FAILED: u8 = 1;
const USAGE: u8 = 2;

impl Failure {
    /// Prints one line to standard error, as JSON for programs, and the causes below it if they are wanted.
    pub(crate) fn report(&self, is_json: bool, with_causes: bool) -> ExitCode {
        match self {
            // Whoever read the output has seen enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            // Whoever pressed Ctrl-C knows.
            Self::Interrupted => return ExitCode::from(self.code()),
            _ => {}
        }
        let message = format!("{self}{}", self.next_step());
        let causes = self.causes();
        let text = match causes.first() {
            _ if is_json => json!({ "error": { "message": message, "causes": causes } }).to_string(),
            Some(_) if with_causes => format!("error: {message}\n  because {}", causes.join("\n  because ")),
            // What the operating system says is as short as it is telling.
            Some(cause) if self.source().is_some_and(|source| source.is::<io::Error>()) => {
                format!("error: {message}: {cause}")
            }
            Some(_) => format!("error: {message} (-v shows why)"),
            None => format!("error: {message}"),
        };
        crate::output::complain(&text);
        ExitCode::from(self.code())
    }

    /// Returns the line that is printed for people, with what the operating system said.
    pub(crate) fn line(&self) -> String {
        let message = format!("error: {self}{}", self.next_step());
        match self.source() {
            Some(source) if source.is::<io::Error>() => format!("{message}: {source}"),
            _ => message,
        }
    }

    /// Whether more was asked than a context holds. A server says so in words alone.
    pub(crate) fn is_too_large(&self) -> bool {
        match self {
            Self::Hub(error) => error.kind() == ErrorKind::TooLarge,
            Self::Answered { message, .. } => message.starts_with("the maximum context length"),
            _ => false,
        }
    }

    fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut cause = self.source();
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        causes
    }

    /// Says what to do next where the hub itself cannot know: it has no command line.
    fn next_step(&self) -> &'static str {
        use hub::{Error, router::Error as Router};
        const GET_ONE: &str = "; `hub pull SOURCE` fetches one, `hub import PATH` takes one that is here";
        let error = match self {
            Self::Hub(error) => error,
            Self::Answered { status: 404, .. } => return GET_ONE,
            _ => return "",
        };
        match **error {
            Error::NoSuchModel { .. }
            | Error::Router(Router::NoSuchModel { .. } | Router::NoneCapable { .. }) => GET_ONE,
            Error::NoName { .. } => " with --name",
            Error::Gone { .. } => " with `hub rm`",
            Error::FileExists { .. } => " (--overwrite)",
            Error::AlreadyQuantized { .. } => " (--requantize)",
            _ => "",
        }
    }

    fn code(&self) -> u8 {
        match self {
            // A mistake in a file is no mistake of the command line.
            Self::Hub(error) if matches!(**error, hub::Error::Config(_)) => FAILED,
            Self::Hub(error) => code(error.kind()),
            Self::Serve(error) => code(error.kind()),
            Self::Nothing { .. } | Self::Setting { .. } => USAGE,
            Self::Interrupted => INTERRUPTED,
            Self::NoServer { .. }
            | Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::Answered { .. }
            | Self::Read { .. }
            | Self::Input(_)
            | Self::Output(_)
            | Self::Terminal(_)
            | Self::Runtime(_)
            | Self::NoKey { .. }
            | Self::NoTemplate { .. }
            | Self::Unwell => FAILED,
        }
    }
}

impl From<hub::Error> for Failure {
    fn from(error: hub::Error) -> Self {
        Self::Hub(Box::new(error))
    }
}

impl From<hub_server::Error> for Failure {
    fn from(error: hub_server::Error) -> Self {
        Self::Serve(Box::new(error))
    }
}

/// The exit code of each kind of error.
fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidInput => USAGE,
        ErrorKind::NotFound
        | ErrorKind::TooLarge
        | ErrorKind::Busy
        | ErrorKind::Cancelled
        | ErrorKind::Denied
        | ErrorKind::Unsupported
        | ErrorKind::Unavailable
        | ErrorKind::Corrupt
        | ErrorKind::Internal => FAILED,
    }
}
