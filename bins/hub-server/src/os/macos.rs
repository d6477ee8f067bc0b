use std::process::{Command, Stdio};

use super::lsof;

/// Finds out which program listens on a TCP port: `hub (process 4711)`.
///
/// `None` if no program does, or it belongs to somebody else and the system does not tell.
pub(crate) fn holder_of_port(port: u16) -> Option<String> {
    let mut list = Command::new("lsof");
    list.args(["-nP", "-sTCP:LISTEN", "-Fpc", &format!("-iTCP:{port}")]).stdin(Stdio::null());
    lsof::holder(&String::from_utf8_lossy(&list.output().ok()?.stdout))
}
