//! The built command, as a shell sees it.
#![cfg(test)]

mod bench_trace;
mod cached;
mod commands;
mod confined;
mod first_hour;
mod pull;
mod quantize;
mod serve;

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// A hub of its own, in a directory that goes with it.
struct Hub {
    home: TempDir,
}

impl Hub {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    fn home(&self) -> &Path {
        self.home.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hub"));
        for (name, _) in
            std::env::vars().filter(|(name, _)| name.starts_with("HUB_") || name.starts_with("HF_"))
        {
            command.env_remove(name);
        }
        command.env("HUB_HOME", self.home()).args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs with `input` piped in.
    fn pipe(&self, args: &[&str], input: &str) -> Output {
        let mut command = self.command(args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Runs a command that works, and returns what it prints.
    #[track_caller]
    fn works(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        stdout(&output)
    }

    /// Runs a command that works, and reads its JSON.
    #[track_caller]
    fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.works(args)).unwrap()
    }

    /// Runs a command that fails: with this exit code, nothing on standard output, and one line that begins so.
    #[track_caller]
    fn fails(&self, args: &[&str], code: i32, message: &str) {
        let output = self.run(args);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert_eq!(stdout(&output), "", "{args:?}");
        assert!(text.starts_with(message), "{args:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{args:?}: {text}");
    }

    /// Writes the configuration file.
    fn configure(&self, text: &str) {
        std::fs::write(self.home().join("hub.toml"), text).unwrap();
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
