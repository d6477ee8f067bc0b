use std::{
    io,
    process::{Command, Stdio},
};

use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};

use super::netstat;

/// Waits until the program is told to stop: Ctrl-C, Ctrl-Break, a window that closes, a system that shuts down.
///
/// It hears from the call on, not from the first time it is polled.
pub(crate) fn told_to_stop() -> impl Future<Output = ()> + Send + 'static {
    let (key, other_key) = (ctrl_c(), ctrl_break());
    let (close, shutdown) = (ctrl_close(), ctrl_shutdown());
    async {
        tokio::select! {
            () = heard(key, async |mut signal| signal.recv().await) => {}
            () = heard(other_key, async |mut signal| signal.recv().await) => {}
            () = heard(close, async |mut signal| signal.recv().await) => {}
            () = heard(shutdown, async |mut signal| signal.recv().await) => {}
        }
    }
}

async fn heard<S>(signal: io::Result<S>, wait: impl AsyncFnOnce(S) -> Option<()>) {
    match signal {
        Ok(signal) => drop(wait(signal).await),
        // This one cannot be told, so that it is never heard.
        Err(_) => std::future::pending().await,
    }
}

/// Finds out which program listens on a TCP port: `hub.exe (process 4711)`.
///
/// `None` if no program does, or the system does not tell.
pub(crate) fn holder_of_port(port: u16) -> Option<String> {
    let process = netstat::listener(&output_of("netstat", &["-ano"])?, port)?;
    let listed = output_of("tasklist", &["/FI", &format!("PID eq {process}"), "/FO", "CSV", "/NH"]);
    let name = listed.as_deref().and_then(netstat::program).unwrap_or("a program");
    Some(format!("{name} (process {process})"))
}

fn output_of(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}
