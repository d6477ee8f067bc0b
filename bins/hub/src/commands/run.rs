mod backend;
mod conversation;
mod input;
mod piped;
mod server;
mod settings;

use std::{path::PathBuf, pin::pin, time::Duration};

use hub::models::{Usage, chat::Message};
use hub_base::ModelId;
use serde_json::json;

use crate::{
    client,
    commands::run::{
        backend::{Asked, Backend},
        settings::Settings,
    },
    failure::Failure,
    output::{Output, complain, faint, is_interactive, piece, read_input},
    session::Session,
};

/// Asks a model: once with a prompt, else as a conversation
///
/// A server that runs for this home answers; else the model is loaded in this process. Ctrl-C stops an answer; at an
/// empty prompt, Ctrl-C twice, Ctrl-D or /bye leave. What is piped in, and files, stand before the prompt.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model, an alias, or auto
    model: String,
    /// The prompt; `-` reads standard input
    prompt: Vec<String>,
    #[command(flatten)]
    settings: Settings,
    /// A text file that stands before the prompt; can be given several times
    #[arg(long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The server to ask [default: HUB_URL, or the one that serves the home directory]
    #[arg(long)]
    url: Option<String>,
    /// The key to send [default: HUB_API_KEY]
    #[arg(long)]
    key: Option<String>,
    /// Loads the model in this process, whatever runs beside it
    #[arg(long, conflicts_with = "url")]
    local: bool,
}

/// An answer, or as much of it as there was before it was stopped.
#[derive(Debug, Default)]
struct Answer {
    model: Option<ModelId>,
    text: String,
    reasoning: String,
    /// Why it ended: `stop` or `length`.
    finish: Option<&'static str>,
    usage: Option<Usage>,
    was_stopped: bool,
}

/// What is shown of an answer while it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Show {
    Nothing,
    Pieces,
}

impl Show {
    fn text(self, text: &str) -> Result<(), Failure> {
        if self == Self::Pieces { piece(text) } else { Ok(()) }
    }

    fn thought(self, text: &str) -> Result<(), Failure> {
        if self == Self::Pieces { faint(text) } else { Ok(()) }
    }
}

impl Args {
    pub(crate) fn run(mut self, session: &Session) -> Result<(), Failure> {
        self.settings.is_verbose = session.is_verbose();
        self.settings.check().map_err(|message| Failure::Setting { message })?;
        let key = self.key.as_deref().or(session.environment.key.as_deref());
        match self.server(session) {
            Some(server) => {
                let backend = Backend::Server(server::Server::new(server, key));
                session.with_runtime(async { self.ask_with(session, &backend).await })
            }
            None => session.with_quiet_hub(async |hub| {
                // Here and not before: reading may start a thread, and the hub must be opened by the only one.
                self.ask_with(session, &Backend::Hub(hub)).await
            }),
        }
    }

    /// Returns the address of the server to ask; `None` to load the model here.
    fn server(&self, session: &Session) -> Option<String> {
        if self.local {
            return None;
        }
        let is_named = self.url.is_some() || session.environment.url.is_some();
        let server = client::server(session, self.url.as_deref()).ok()?;
        // One that was killed may have left its address behind.
        (is_named || client::is_alive(&server)).then_some(server)
    }

    async fn ask_with(&self, session: &Session, backend: &Backend<'_>) -> Result<(), Failure> {
        let prompt = self.prompt(session.output)?;
        let loaded = backend.load(&self.model, &self.settings).await?;
        match prompt {
            Some(prompt) => self.once(session.output, backend, prompt).await,
            None => {
                let history = session.environment.home.join("history");
                conversation::hold(backend, &self.model, &loaded, self.settings.clone(), history).await
            }
        }
    }

    /// Returns what to ask once; `None` for a conversation.
    fn prompt(&self, output: Output) -> Result<Option<String>, Failure> {
        let mut texts = Vec::new();
        for file in &self.files {
            texts.push(input::read_file(file)?);
        }
        match self.prompt.as_slice() {
            [] if is_interactive() && !output.is_json && texts.is_empty() => return Ok(None),
            [] if !texts.is_empty() => texts.extend(piped::read()?),
            [] => texts.push(read_input()?),
            [dash] if dash == "-" => texts.push(read_input()?),
            words => {
                texts.extend(piped::read()?);
                texts.push(words.join(" "));
            }
        }
        let parts: Vec<&str> =
            texts.iter().map(|text| text.trim_end()).filter(|text| !text.is_empty()).collect();
        if parts.is_empty() {
            return Err(Failure::Nothing { what: "no prompt" });
        }
        // Alone, a text is asked as it came.
        Ok(Some(if texts.len() == 1 { texts.swap_remove(0) } else { parts.join("\n\n") }))
    }

    async fn once(&self, output: Output, backend: &Backend<'_>, prompt: String) -> Result<(), Failure> {
        let asked = match &self.settings.system {
            Some(system) => {
                Asked::Conversation(vec![Message::system(system.as_str()), Message::user(prompt)])
            }
            None => Asked::Question(prompt),
        };
        let show = if output.is_json { Show::Nothing } else { Show::Pieces };
        let answer = ask(backend, &self.model, asked, &self.settings, show).await?;
        if !output.is_json {
            piece("\n")?;
        }
        if answer.was_stopped {
            return Err(Failure::Interrupted);
        }
        if self.settings.is_verbose {
            complain(&answer.figures());
        }
        if output.is_json { output.emit(&answer.json(), |_| String::new()) } else { Ok(()) }
    }
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        let usage = self.usage.unwrap_or_default();
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        json!({
            "model": self.model,
            "text": self.text,
            "reasoning": Some(&self.reasoning).filter(|reasoning| !reasoning.is_empty()),
            "finish_reason": self.finish,
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "queue_ms": ms(usage.queue),
                "prefill_ms": ms(usage.prefill),
                "decode_ms": ms(usage.decode),
            },
        })
    }

    /// Says what the answer took.
    fn figures(&self) -> String {
        let Some(usage) = self.usage else { return "no figures: the answer was stopped".to_owned() };
        let part = |tokens: usize, time: Duration| {
            let seconds = time.as_secs_f64();
            let rate = if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
            format!("{seconds:.2} s, {rate:.1} tokens/s")
        };
        // The first token of an answer comes out of its prompt.
        let decoded = usage.completion_tokens.saturating_sub(1);
        format!(
            "prompt  {} tokens, {}\nanswer  {} tokens, {}",
            usage.prompt_tokens,
            part(usage.prompt_tokens, usage.prefill),
            usage.completion_tokens,
            part(decoded, usage.decode)
        )
    }
}

/// Asks, and shows the answer piece by piece until it ends or Ctrl-C stops it.
async fn ask(
    backend: &Backend<'_>,
    model: &str,
    asked: Asked,
    settings: &Settings,
    show: Show,
) -> Result<Answer, Failure> {
    let mut answer = Answer::default();
    // One for the whole answer: between two of them a Ctrl-C would be lost.
    let mut stop = pin!(tokio::signal::ctrl_c());
    let mut pieces = tokio::select! {
        pieces = backend.ask(model, asked, settings) => pieces?,
        _ = &mut stop => return Ok(Answer { was_stopped: true, ..answer }),
    };
    answer.model = pieces.model();
    loop {
        let piece = tokio::select! {
            piece = pieces.next() => piece,
            _ = &mut stop => return Ok(Answer { was_stopped: true, ..answer }),
        };
        let Some(piece) = piece else { return Ok(answer) };
        let piece = piece?;
        if !piece.reasoning.is_empty() {
            show.thought(&piece.reasoning)?;
            answer.reasoning.push_str(&piece.reasoning);
        }
        if !piece.text.is_empty() {
            // What was thought ends here.
            if answer.text.is_empty() && !answer.reasoning.is_empty() {
                show.thought("\n\n")?;
            }
            show.text(&piece.text)?;
            answer.text.push_str(&piece.text);
        }
        answer.finish = piece.finish.or(answer.finish);
        answer.usage = piece.usage.or(answer.usage);
    }
}
