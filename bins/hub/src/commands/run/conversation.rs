use std::path::PathBuf;

use hub::models::chat::Message;
use serde_json::Value;

use super::{
    Answer, Show, ask,
    backend::{Asked, Backend, Ready},
    input::{Input, Typed, read_file},
    settings::{PARAMETERS, Settings},
};
use crate::{
    failure::Failure,
    output::{complain, line, piece},
};

const HELP: &str = "\
/set parameter NAME VALUE    changes how answers are drawn: temperature, num_predict, stop, …
/set verbose, /set quiet     says after each answer what it took, or does not
/set think, /set nothink     whether a model that can think does
/set history, nohistory      whether what you type is kept for later conversations
/set                         shows what is set
/system [TEXT]               shows or changes what the model is told before the conversation
/file PATH                   asks with a text file before your next line
/clear                       forgets what was said
/bye                         leaves, as do Ctrl-D and Ctrl-C twice
\"\"\"                          begins and ends a text of several lines; a line that ends in \\ goes on
Ctrl-C                       stops an answer";

/// A conversation while it is held.
struct Conversation<'a> {
    backend: &'a Backend<'a>,
    model: &'a str,
    settings: Settings,
    messages: Vec<Message>,
    /// Texts of files that stand before the next line.
    files: Vec<String>,
    input: Input,
}

/// What a line came to.
enum Turn {
    GoesOn,
    Ends,
}

/// Talks with whoever is at the terminal until they leave. Keeps what they typed in `history`, and no answer.
pub(super) async fn hold(
    backend: &Backend<'_>,
    model: &str,
    ready: &Ready,
    settings: Settings,
    history: PathBuf,
) -> Result<(), Failure> {
    let context = ready.context.map_or_else(String::new, |(tokens, made_for)| {
        if tokens < made_for {
            format!(" with a context of {tokens} tokens ({made_for} do not fit the memory budget)")
        } else {
            format!(" with a context of {tokens} tokens")
        }
    });
    line(&format!("{} is here{context}; /help says what else can be typed", ready.name))?;
    let input = Input::new(history)?;
    let mut conversation =
        Conversation { backend, model, settings, messages: Vec::new(), files: Vec::new(), input };
    let mut stops = 0;
    loop {
        let text = match conversation.input.read()? {
            Typed::Text(text) => text,
            // A line that was begun is given up, and nothing else.
            Typed::Stop { was_empty: false } => {
                stops = 0;
                continue;
            }
            Typed::Stop { .. } if stops == 0 => {
                stops = 1;
                line("(once more leaves)")?;
                continue;
            }
            Typed::Stop { .. } | Typed::End => return Ok(()),
        };
        stops = 0;
        if matches!(conversation.take(text).await?, Turn::Ends) {
            return Ok(());
        }
    }
}

impl Conversation<'_> {
    /// Does what a line says, or asks it.
    async fn take(&mut self, text: String) -> Result<Turn, Failure> {
        let typed = text.trim();
        let (word, rest) = typed.split_once(char::is_whitespace).unwrap_or((typed, ""));
        match word {
            "" => {}
            "/bye" | "/exit" | "/quit" => return Ok(Turn::Ends),
            "/clear" => {
                self.messages.clear();
                self.files.clear();
                line("what was said is forgotten")?;
            }
            "/help" | "/?" => line(HELP)?,
            "/set" => line(&self.set(rest.trim()))?,
            "/system" => line(&self.system(rest.trim()))?,
            "/file" => line(&self.file(rest.trim()))?,
            // A path is no command.
            command if is_command(command) => {
                line(&format!("there is no {command}; /help says what there is"))?;
            }
            _ => self.ask(text).await?,
        }
        Ok(Turn::GoesOn)
    }

    fn system(&mut self, text: &str) -> String {
        if text.is_empty() {
            return match &self.settings.system {
                Some(system) => system.clone(),
                None => "nothing is said before the conversation".to_owned(),
            };
        }
        self.settings.system = Some(unquoted(text));
        "said before the conversation from now on".to_owned()
    }

    fn file(&mut self, path: &str) -> String {
        match read_file(PathBuf::from(unquoted(path)).as_path()) {
            Ok(text) => {
                let said = format!("{} characters stand before your next line", text.chars().count());
                self.files.push(text);
                said
            }
            Err(failure) => failure.line(),
        }
    }

    /// Changes what is set, and says how.
    fn set(&mut self, what: &str) -> String {
        let (word, rest) = what.split_once(char::is_whitespace).unwrap_or((what, ""));
        let settings = &mut self.settings;
        match word {
            "" => {
                let parameters = Value::Object(settings.parameters());
                let system = settings.system.as_deref().unwrap_or("nothing");
                return format!("parameters {parameters}\nsystem     {system}");
            }
            "verbose" => settings.is_verbose = true,
            "quiet" => settings.is_verbose = false,
            "think" => settings.set_think(true),
            "nothink" => settings.set_think(false),
            "history" => self.input.keeps_history = true,
            "nohistory" => self.input.keeps_history = false,
            "system" => return self.system(rest.trim()),
            "parameter" => {
                let (name, value) = rest.trim().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
                if name.is_empty() {
                    return format!("/set parameter takes a name and a value: {PARAMETERS}");
                }
                if let Err(error) = settings.set(name, &unquoted(value.trim())) {
                    return error;
                }
            }
            // What Ollama calls a parameter is often set without the word.
            name if PARAMETERS.split(", ").any(|known| known == name) => {
                return self.set(&format!("parameter {what}"));
            }
            _ => return format!("there is no /set {word}; /help says what there is"),
        }
        format!("{what} is set")
    }

    /// Has the last message answered. Turns that no longer fit the context are left out, the oldest first.
    async fn answer(&mut self) -> Result<Answer, Failure> {
        let mut is_told = false;
        loop {
            let system = self.settings.system.iter().map(|system| Message::system(system.as_str()));
            let said = system.chain(self.messages.iter().cloned()).collect();
            let asked =
                ask(self.backend, self.model, Asked::Conversation(said), &self.settings, Show::Pieces);
            match asked.await {
                Err(failure) if failure.is_too_large() && self.messages.len() > 2 => {
                    self.messages.drain(..2);
                }
                answer => return answer,
            }
            if !is_told {
                complain(
                    "note: the oldest turns no longer fit the context and are forgotten; /clear forgets all",
                );
                is_told = true;
            }
        }
    }

    /// Asks, and shows the answer.
    async fn ask(&mut self, text: String) -> Result<(), Failure> {
        let question = self.files.iter().map(|file| file.trim_end()).chain([text.as_str()]);
        let question = question.collect::<Vec<_>>().join("\n\n");
        self.messages.push(Message::user(question));
        match self.answer().await {
            Ok(answer) => {
                piece("\n")?;
                if self.settings.is_verbose {
                    line(&answer.figures())?;
                }
                self.files.clear();
                if answer.was_stopped && answer.text.is_empty() {
                    // A question without any answer is no part of the conversation.
                    self.messages.pop();
                } else {
                    self.messages.push(Message::assistant(answer.text));
                }
            }
            Err(failure @ (Failure::Hub(_) | Failure::Answered { .. } | Failure::Unreachable { .. })) => {
                // The question got no answer, so it is no part of the conversation.
                self.messages.pop();
                complain(&failure.line());
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }
}

/// Tells whether a word looks like a command: a slash, and letters.
fn is_command(word: &str) -> bool {
    word.strip_prefix('/').is_some_and(|name| name.chars().all(|c| c.is_ascii_alphabetic()))
}

/// Takes away the quotes that a text stands in.
fn unquoted(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or(text).to_owned()
}
