use std::{
    borrow::Cow,
    io::{self, IsTerminal, Read, Write},
};

use serde::Serialize;

use crate::failure::Failure;

/// How a command answers: text for people, or JSON for programs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Whether programs read it.
    pub(crate) is_json: bool,
}

impl Output {
    /// Prints `value` as JSON, or as the text that `text` makes of it.
    pub(crate) fn emit<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let text = if self.is_json {
            serde_json::to_string_pretty(value).map_err(|error| Failure::Output(error.into()))?
        } else {
            text(value)
        };
        line(&text)
    }
}

/// Prints a line; nothing for an empty one.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let text = text.trim_end_matches('\n');
    if text.is_empty() { Ok(()) } else { piece(&format!("{text}\n")) }
}

/// Prints a piece of text at once.
pub(crate) fn piece(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let text = harmless(text, out.is_terminal());
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)
}

/// Prints a piece of text at once, in faint letters; nothing in a pipe, whose reader wants the answer alone.
pub(crate) fn faint(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if !out.is_terminal() {
        return Ok(());
    }
    let text = harmless(text, true);
    write!(out, "\x1b[2m{text}\x1b[0m").and_then(|()| out.flush()).map_err(Failure::Output)
}

/// Prints a line to standard error.
pub(crate) fn complain(text: &str) {
    let mut err = io::stderr().lock();
    let text = harmless(text, err.is_terminal());
    // Where standard error is closed there is nobody left to tell.
    let _ = writeln!(err, "{text}");
}

/// Makes a text harmless for a terminal: models, their files and their names may hold sequences that move its cursor,
/// rename its window or type for its user. A pipe gets every byte.
fn harmless(text: &str, is_terminal: bool) -> Cow<'_, str> {
    let is_harmful = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !is_terminal || !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| if is_harmful(c) { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.replace("\r\n", "\n").chars().map(shown).collect())
}

/// Tells whether somebody sits at both ends.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Reads standard input to its end.
pub(crate) fn read_input() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin().lock().read_to_string(&mut text).map_err(Failure::Input)?;
    Ok(text)
}

/// Lays rows out in columns: left-aligned, two spaces apart, as wide as their widest cell.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Writes a count of parameters as people say it: `8.2B`.
pub(crate) fn count(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => format!("{:.1}K", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", number as f64 / 1e6),
        _ => format!("{:.1}B", number as f64 / 1e9),
    }
}

/// Writes how long ago a moment was, both in Unix milliseconds.
pub(crate) fn age(at_ms: i64, now_ms: i64) -> String {
    let seconds = now_ms.saturating_sub(at_ms).max(0) / 1_000;
    match seconds {
        0..60 => "just now".to_owned(),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "tiếng Việt".to_owned()], ["long name".to_owned(), "b".to_owned()]];
        assert_eq!(table(["NAME", "X"], rows), "NAME       X\na          tiếng Việt\nlong name  b\n");
    }

    #[test]
    fn a_terminal_gets_no_control_sequence_and_a_pipe_every_byte() {
        let text = "Tiếng Việt\t\u{1b}[2J\u{9b}1m\r\n\u{7}";
        assert_eq!(harmless(text, true), "Tiếng Việt\t\\u{1b}[2J\\u{9b}1m\n\\u{7}");
        assert_eq!(harmless(text, false), text);
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([7, 1_500, 4_200_000, 8_190_000_000].map(count), ["7", "1.5K", "4.2M", "8.2B"]);
        assert_eq!(age(0, 59_000), "just now");
        assert_eq!(age(0, 7_200_000), "2 h ago");
        assert_eq!(age(5_000, 0), "just now");
    }
}
