//! Arithmetic for the crates above, beside that of executors.

pub use hub_kernels::{SCORES, softmax_sums, softmax_weights};
