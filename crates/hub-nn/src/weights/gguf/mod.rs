//! The file format of llama.cpp: key and value pairs, then tensors, in one file or in numbered parts.
//!
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod cursor;
mod read;
mod split;
mod types;
mod write;

pub(super) use read::{Head, read_head};
pub(super) use split::Split;
pub use write::{GgufWriter, write_gguf};

/// The first bytes of a file.
pub(super) const MAGIC: &[u8; 4] = b"GGUF";
/// Where tensors start unless `general.alignment` says otherwise.
const ALIGNMENT: u64 = 32;
/// How many axes the format allows.
const MAX_DIMS: u32 = 4;
/// How deep lists may lie in lists; no known file nests at all.
const MAX_NESTING: usize = 4;
