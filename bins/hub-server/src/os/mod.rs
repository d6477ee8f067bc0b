//! What only the operating system knows.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

#[cfg(target_os = "linux")]
pub(crate) use linux::holder_of_port;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::holder_of_port;
