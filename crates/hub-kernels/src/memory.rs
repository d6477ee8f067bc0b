//! Memory for weights: aligned to cache lines, in huge pages where the system has them.

#[cfg(target_os = "linux")]
mod huge;
#[cfg(not(target_os = "linux"))]
#[path = "memory/plain.rs"]
mod huge;

pub(crate) use huge::Buffer;
