//! Programs as steps: started in the repository's root, with what they print shown or kept.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Why a chore stopped.
pub(crate) type Error = Box<dyn std::error::Error>;

/// How a step came out that did not fail.
pub(crate) enum Outcome {
    /// It was taken.
    Passed,
    /// It could not be taken here, and this is why.
    Skipped(String),
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::Passed
    }
}

/// Returns the root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Returns the folder where chores keep what they fetch, made if need be.
///
/// # Errors
/// The operating system's, if it cannot be made.
pub(crate) fn cache() -> io::Result<PathBuf> {
    let folder = root().join("target/xtask");
    std::fs::create_dir_all(&folder)?;
    folder.canonicalize()
}

/// Makes a command that runs in the repository's root.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root()).stdin(Stdio::null());
    command
}

/// Runs a command to its end, showing what it prints.
///
/// # Errors
/// If it cannot be started, or ends with another code than 0.
pub(crate) fn run(mut command: Command) -> Result<(), Error> {
    println!("$ {}", shown(&command));
    let status = command.status().map_err(|error| format!("{}: {error}", shown(&command)))?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", shown(&command)).into()) }
}

/// Runs a command to its end and returns what it printed, both streams together; it is shown as well.
///
/// # Errors
/// If it cannot be started. The second value tells whether it ended with 0.
pub(crate) fn output(mut command: Command) -> Result<(String, bool), Error> {
    println!("$ {}", shown(&command));
    let output = command.output().map_err(|error| format!("{}: {error}", shown(&command)))?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    print!("{text}");
    Ok((text.into_owned(), output.status.success()))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
