use hub::{
    Hub, Installed,
    models::{Prompt, chat::Message},
};
use rustyline::{DefaultEditor, error::ReadlineError};

use crate::{
    commands::run::{Args, Show, ask},
    failure::Failure,
    output::{complain, line, piece},
};

const HELP: &str = "\
/clear  forgets what was said
/bye    leaves, as do Ctrl-D and Ctrl-C twice
Ctrl-C  stops an answer";

/// What was typed.
enum Typed {
    Text(String),
    /// Ctrl-C.
    Stop,
    /// Ctrl-D.
    End,
}

/// Talks with whoever is at the terminal until they leave. Keeps the conversation, and no file of it.
pub(super) async fn hold(hub: &Hub, args: &Args, model: &Installed) -> Result<(), Failure> {
    let mut editor = DefaultEditor::new().map_err(Failure::Terminal)?;
    let mut messages = args.opening();
    line(&format!("{} is here; /help says what else can be typed", model.name))?;
    let mut stops = 0;
    loop {
        let text = match read(&mut editor)? {
            Typed::Text(text) => text,
            Typed::Stop if stops == 0 => {
                stops = 1;
                line("(once more leaves)")?;
                continue;
            }
            Typed::Stop | Typed::End => return Ok(()),
        };
        stops = 0;
        match text.trim() {
            "" => {}
            "/bye" | "/exit" | "/quit" => return Ok(()),
            "/clear" => messages = args.opening(),
            "/help" | "/?" => line(HELP)?,
            command if command.starts_with('/') && !command.contains(' ') => {
                line(&format!("there is no {command}; /help says what there is"))?;
            }
            _ => {
                messages.push(Message::user(text));
                match answer(hub, args, &messages).await {
                    Ok(answer) => messages.push(Message::assistant(answer)),
                    Err(Failure::Hub(error)) => {
                        // The question got no answer, so it is no part of the conversation.
                        messages.pop();
                        complain(&format!("error: {error}"));
                    }
                    Err(failure) => return Err(failure),
                }
            }
        }
    }
}

/// Shows the answer to the last message, and returns as much of it as there was.
async fn answer(hub: &Hub, args: &Args, messages: &[Message]) -> Result<String, Failure> {
    let answer = ask(hub, args.request(Prompt::from(messages.to_vec())), Show::Pieces).await?;
    piece("\n")?;
    Ok(answer.text)
}

/// Reads a line. Editing blocks, so the other threads of the runtime take over meanwhile.
fn read(editor: &mut DefaultEditor) -> Result<Typed, Failure> {
    match tokio::task::block_in_place(|| editor.readline(">>> ")) {
        Ok(text) => {
            // A history that does not take a line is no reason to stop.
            let _ = editor.add_history_entry(text.as_str());
            Ok(Typed::Text(text))
        }
        Err(ReadlineError::Interrupted) => Ok(Typed::Stop),
        Err(ReadlineError::Eof) => Ok(Typed::End),
        Err(error) => Err(Failure::Terminal(error)),
    }
}
