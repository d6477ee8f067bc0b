//! What only the operating system knows.

#[cfg(windows)]
mod ctrl_c;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(unix)]
mod unix;

#[cfg(windows)]
pub(crate) use ctrl_c::told_to_stop;
#[cfg(target_os = "linux")]
pub(crate) use linux::holder_of_port;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::holder_of_port;
#[cfg(unix)]
pub(crate) use unix::told_to_stop;
