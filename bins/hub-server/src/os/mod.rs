//! What only the operating system knows.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(test, all(unix, not(target_os = "linux"))))]
mod lsof;
#[cfg(all(unix, not(target_os = "linux")))]
mod macos;
#[cfg(any(test, windows))]
mod netstat;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub(crate) use linux::holder_of_port;
#[cfg(all(unix, not(target_os = "linux")))]
pub(crate) use macos::holder_of_port;
#[cfg(unix)]
pub(crate) use unix::told_to_stop;
#[cfg(windows)]
pub(crate) use windows::{holder_of_port, told_to_stop};
