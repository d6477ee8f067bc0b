use std::io::{self, IsTerminal};

/// Tells whether standard input is no terminal: something was probably meant to be read.
pub(crate) fn is_piped() -> bool {
    !io::stdin().is_terminal()
}
