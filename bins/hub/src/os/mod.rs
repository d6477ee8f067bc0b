//! What this program asks the operating system itself.

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub(crate) use unix::is_piped;

#[cfg(not(unix))]
mod other;
#[cfg(not(unix))]
pub(crate) use other::is_piped;
