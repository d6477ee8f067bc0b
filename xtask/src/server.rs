//! A hub of its own for the clients that need one: a free port, an empty home, gone at the end.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::run::{Error, root};

/// A running `hub serve`; dropping it ends the process and removes its home.
pub(crate) struct Server {
    child: Child,
    home: PathBuf,
    /// Where it listens: `http://127.0.0.1:40123`.
    pub(crate) url: String,
}

impl Server {
    /// Starts the hub that cargo has built in `target/<profile>`, after importing `models` (folder and name).
    ///
    /// # Errors
    /// If it cannot be started, or ends before it is ready.
    pub(crate) fn start(profile: &str, models: &[(PathBuf, &str)]) -> Result<Self, Error> {
        let program =
            root().join("target").join(profile).join(format!("hub{}", std::env::consts::EXE_SUFFIX));
        let home = std::env::temp_dir().join(format!("hub-xtask-{}", std::process::id()));
        std::fs::create_dir_all(&home)?;
        let hub = |args: &[&str]| {
            let mut command = Command::new(&program);
            // Whatever it is asked, nothing leaves this machine.
            command.args(args).env("HUB_HOME", &home).env("HUB_OFFLINE", "1").stdin(Stdio::null());
            command
        };
        for (path, name) in models {
            let path = path.to_string_lossy();
            let status = hub(&["import", &path, "--name", name]).status()?;
            if !status.success() {
                return Err(format!("hub import {path} ended with {status}").into());
            }
        }
        let mut child = hub(&["serve", "--port", "0"]).stdout(Stdio::piped()).spawn()?;
        let lines = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        let url = lines
            .into_iter()
            .flatten()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("listening on ").map(|(_, url)| url.trim().to_owned()));
        match url {
            Some(url) => Ok(Self { child, home, url }),
            None => Err(format!("hub serve ended before it was ready: {}", child.wait()?).into()),
        }
    }

    /// Returns the id of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whatever is left is of no use to anyone.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.home);
    }
}
