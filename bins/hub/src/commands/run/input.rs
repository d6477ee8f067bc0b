//! What is typed: lines, blocks of several lines, and what was typed before.

use std::{
    cell::Cell,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use rustyline::{
    Config, Context, Editor, Helper, completion::Completer, error::ReadlineError, highlight::Highlighter,
    hint::Hinter, history::FileHistory, validate::Validator,
};

use crate::failure::Failure;

/// The longest text that is read from a file.
const MAX_BYTES: u64 = 64 << 20;

/// How many lines of earlier conversations can be taken up again.
const MAX_HISTORY: usize = 1_000;

/// Begins and ends a text of several lines.
const FENCE: &str = "\"\"\"";

/// What was typed.
pub(super) enum Typed {
    Text(String),
    /// Ctrl-C.
    Stop {
        /// Whether nothing stood on the line.
        was_empty: bool,
    },
    /// Ctrl-D.
    End,
}

/// Knows whether anything stands on the line: the editor asks it for a hint whenever the line changes.
#[derive(Default)]
struct Watch {
    is_empty: Cell<bool>,
}

impl Hinter for Watch {
    type Hint = String;

    fn hint(&self, line: &str, _at: usize, _context: &Context<'_>) -> Option<String> {
        self.is_empty.set(line.is_empty());
        None
    }
}

impl Completer for Watch {
    type Candidate = String;
}

impl Highlighter for Watch {}
impl Validator for Watch {}
impl Helper for Watch {}

/// Reads what is typed at the terminal, with what was typed in earlier conversations at hand.
pub(super) struct Input {
    editor: Editor<Watch, FileHistory>,
    history: PathBuf,
    pub(super) keeps_history: bool,
}

impl Input {
    /// Takes up what was typed before from `history`, if there is such a file.
    pub(super) fn new(history: PathBuf) -> Result<Self, Failure> {
        let config = Config::builder().max_history_size(MAX_HISTORY).map_err(Failure::Terminal)?;
        // What is pasted may have several lines, and is one text.
        let config = config.bracketed_paste(true).build();
        let mut editor = Editor::with_config(config).map_err(Failure::Terminal)?;
        editor.set_helper(Some(Watch::default()));
        // The first conversation has none.
        let _ = editor.load_history(&history);
        Ok(Self { editor, history, keeps_history: true })
    }

    /// Reads a text: a line; a line that goes on because it ends in a backslash; or all between two lines of `"""`.
    ///
    /// Editing blocks, so the other threads of the runtime take over meanwhile.
    pub(super) fn read(&mut self) -> Result<Typed, Failure> {
        let mut text = match self.line(">>> ")? {
            Typed::Text(text) => text,
            other => return Ok(other),
        };
        while let Some(more) = unfinished(&text) {
            match self.line("... ")? {
                Typed::Text(line) => text = format!("{more}\n{line}"),
                // The text is given up, not the conversation.
                Typed::Stop { .. } | Typed::End => return Ok(Typed::Text(String::new())),
            }
        }
        self.remember(&text);
        Ok(Typed::Text(unfenced(&text)))
    }

    fn line(&mut self, prompt: &str) -> Result<Typed, Failure> {
        // A line that is stopped before it was changed is empty.
        if let Some(watch) = self.editor.helper() {
            watch.is_empty.set(true);
        }
        match tokio::task::block_in_place(|| self.editor.readline(prompt)) {
            Ok(text) => Ok(Typed::Text(text)),
            Err(ReadlineError::Interrupted) => {
                let was_empty = self.editor.helper().is_none_or(|watch| watch.is_empty.get());
                Ok(Typed::Stop { was_empty })
            }
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(error) => Err(Failure::Terminal(error)),
        }
    }

    /// Keeps a text for this conversation, and for later ones unless that is switched off.
    fn remember(&mut self, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        // A history that does not take a line is no reason to stop, nor is a disk that is full.
        let _ = self.editor.add_history_entry(text);
        if self.keeps_history {
            let _ = self.editor.append_history(&self.history);
        }
    }
}

/// Returns a text without the mark that it goes on, if it does.
fn unfinished(text: &str) -> Option<&str> {
    match text.trim_start().strip_prefix(FENCE) {
        Some(rest) => (!rest.trim_end().ends_with(FENCE)).then_some(text),
        None => text.strip_suffix('\\'),
    }
}

/// Takes the marks around several lines away.
fn unfenced(text: &str) -> String {
    let inner = text.trim().strip_prefix(FENCE).and_then(|rest| rest.strip_suffix(FENCE));
    inner.map_or_else(|| text.to_owned(), |inner| inner.trim_matches('\n').to_owned())
}

/// Reads a file of text.
///
/// # Errors
/// [`Failure::Read`] if it cannot be read, or is no text.
pub(super) fn read_file(path: &Path) -> Result<String, Failure> {
    let failure = |source| Failure::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(failure)?;
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > MAX_BYTES) {
        return Err(failure(std::io::ErrorKind::FileTooLarge.into()));
    }
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(failure)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_lines_stand_between_marks_or_end_in_a_backslash() {
        assert_eq!(unfinished("xin chào"), None);
        assert_eq!(unfinished("one \\"), Some("one "));
        assert_eq!(unfinished("\"\"\"one"), Some("\"\"\"one"));
        assert_eq!(unfinished("\"\"\"one\ntwo\"\"\""), None);
        assert_eq!(unfinished("\"\"\""), Some("\"\"\""));
        assert_eq!(unfenced("\"\"\"\none\ntwo\n\"\"\""), "one\ntwo");
        assert_eq!(unfenced("say \"\"\""), "say \"\"\"");
    }
}
