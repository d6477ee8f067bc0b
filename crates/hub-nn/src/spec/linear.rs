use std::ops::Range;

/// A tensor of the files, or some of its rows.
///
/// Rows count along the first axis, so one fused tensor (Phi-3's `qkv_proj`) serves several parts of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorRef {
    /// Its name in the files.
    pub name: String,
    /// The rows that are meant; all of them if `None`.
    pub rows: Option<Range<usize>>,
}

impl TensorRef {
    /// Names a whole tensor.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), rows: None }
    }

    /// Names rows of a tensor.
    pub fn rows(name: impl Into<String>, rows: Range<usize>) -> Self {
        Self { name: name.into(), rows: Some(rows) }
    }
}

/// A matrix that rows are multiplied with, and what is added: `x · weightᵀ + bias`.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearSpec {
    /// `[outputs, inputs]`.
    pub weight: TensorRef,
    /// `[outputs]`.
    pub bias: Option<TensorRef>,
    /// Width of the rows that come in.
    pub inputs: usize,
    /// Width of the rows that come out.
    pub outputs: usize,
}

impl LinearSpec {
    pub(super) fn collect<'a>(&'a self, all: &mut Vec<&'a TensorRef>) {
        all.push(&self.weight);
        all.extend(&self.bias);
    }
}
