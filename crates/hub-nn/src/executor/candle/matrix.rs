use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, quantized::QTensor};
use rayon::prelude::*;

use super::packed::PackedMatrix;

/// How many rows of a half-precision matrix are widened to `f32` at a time: at common widths they stay in L2.
const WIDENED_ROWS: usize = 64;

/// A weight `[outputs, inputs]`, kept as it is stored.
#[derive(Clone, Debug)]
pub(super) enum Matrix {
    /// `f32`.
    Full(Tensor),
    /// `f16` or `bf16`, widened piece by piece where it is used.
    Half(Tensor),
    /// Blocks of few bits that candle knows.
    Quantized(Arc<QTensor>),
    /// Others.
    Packed(PackedMatrix),
}

/// A matrix and what is added to its product.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    pub(super) matrix: Matrix,
    pub(super) bias: Option<Tensor>,
}

impl Matrix {
    /// Multiplies rows `[rows, inputs]`, contiguous, into `[rows, outputs]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Full(weight) => x.matmul(&weight.t()?),
            Self::Half(weight) => multiply_half(x, weight),
            Self::Quantized(weight) => x.apply_op1_no_bwd(weight.as_ref()),
            Self::Packed(weight) => weight.forward(x),
        }
    }

    /// Returns the rows `ids` (`[rows]`, `u32`) as `[rows, inputs]` in `f32`.
    pub(super) fn rows(&self, ids: &Tensor) -> Result<Tensor> {
        match self {
            Self::Full(weight) => weight.index_select(ids, 0),
            Self::Half(weight) => weight.index_select(ids, 0)?.to_dtype(DType::F32),
            Self::Quantized(weight) => weight.embedding(ids),
            Self::Packed(weight) => weight.rows(ids),
        }
    }
}

impl Linear {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let product = self.matrix.forward(x)?;
        match &self.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }
}

/// Multiplies without ever holding the whole matrix in `f32`.
fn multiply_half(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if !matches!(x.device(), Device::Cpu) {
        return x.matmul(&weight.to_dtype(DType::F32)?.t()?);
    }
    let outputs = weight.dim(0)?;
    let starts: Vec<usize> = (0..outputs).step_by(WIDENED_ROWS).collect();
    let pieces = starts
        .into_par_iter()
        .map(|start| {
            let rows = weight.narrow(0, start, WIDENED_ROWS.min(outputs - start))?;
            x.matmul(&rows.to_dtype(DType::F32)?.t()?)
        })
        .collect::<Result<Vec<Tensor>>>()?;
    Tensor::cat(&pieces, 1)
}
