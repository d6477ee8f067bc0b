//! Memory for weights: aligned to cache lines, in huge pages where the system has them.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

#[cfg(target_os = "linux")]
pub(crate) use linux::Buffer;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::Buffer;
