//! What differs between operating systems.

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub(crate) use unix::link;

#[cfg(not(unix))]
mod other;
#[cfg(not(unix))]
pub(crate) use other::link;
