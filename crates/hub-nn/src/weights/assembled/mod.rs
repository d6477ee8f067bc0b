//! Tensors that are made of several stored ones: matrices of few bits in Hugging Face folders, whose scales lie beside
//! them.
//!
//! A format finds its parts among the tensors of the files, takes them out, and puts one tensor in their place: of the
//! name a plain folder has for it, in rows of a kind that executors know. What those rows are is made of the parts where
//! they are read.

mod mxfp4;

use std::{ops::Range, sync::Arc};

use indexmap::IndexMap;

use super::{Error, TensorInfo, Weights};

/// How the rows of an assembled tensor are made of its parts.
pub(super) trait Assembly: std::fmt::Debug + Send + Sync {
    /// Fills `out` with some rows, in the kind that the tensor is said to have.
    fn rows(&self, weights: &Weights, rows: Range<usize>, out: &mut [u8]) -> Result<(), Error>;
}

/// Returns a tensor that is made of parts.
fn assembled(info: TensorInfo, assembly: impl Assembly + 'static) -> TensorInfo {
    TensorInfo { assembly: Some(Arc::new(assembly)), ..info }
}

/// Puts tensors in place of the parts they are made of. `file` is what errors call the files.
pub(super) fn assemble(file: &str, tensors: &mut IndexMap<String, TensorInfo>) -> Result<(), Error> {
    mxfp4::assemble(file, tensors)
}
