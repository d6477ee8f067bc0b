//! What differs between operating systems.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::read_exact_at;
#[cfg(windows)]
pub(crate) use windows::read_exact_at;
