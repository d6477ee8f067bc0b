use candle_core::{Device, Result, Tensor};

use crate::{
    executor::rope::{Rope, Rotations},
    spec::{Pairing, RopeSpec},
};

/// Cosines and sines of some rows, each `[rows, dims / 2]`.
pub(super) struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Angles {
    /// Computes the angles of rows, given as first position, count and span of each segment.
    pub(super) fn of(rope: &Rope, segments: &[(usize, usize, usize)], device: &Device) -> Result<Self> {
        let pairs = rope.spec().dims / 2;
        let rows = segments.iter().map(|(_, count, _)| count).sum::<usize>();
        let mut rotations = Rotations::default();
        rope.rotations(segments.iter().copied(), &mut rotations);
        Ok(Self {
            cos: Tensor::from_vec(rotations.cos, (rows, pairs), device)?,
            sin: Tensor::from_vec(rotations.sin, (rows, pairs), device)?,
        })
    }

    /// Rotates `x`, `[rows, heads, head_dim]`, and returns the same shape.
    pub(super) fn rotate(&self, x: &Tensor, rope: &RopeSpec) -> Result<Tensor> {
        let head_dim = x.dim(2)?;
        let dims = rope.dims;
        if dims == head_dim {
            return self.rotate_all(x, rope);
        }
        let turned = self.rotate_all(&x.narrow(2, 0, dims)?, rope)?;
        Tensor::cat(&[turned, x.narrow(2, dims, head_dim - dims)?], 2)
    }

    fn rotate_all(&self, x: &Tensor, rope: &RopeSpec) -> Result<Tensor> {
        match rope.pairing {
            Pairing::Halves => {
                let x = x.unsqueeze(0)?.contiguous()?;
                candle_nn::rotary_emb::rope_thd(&x, &self.cos, &self.sin)?.squeeze(0)
            }
            Pairing::Interleaved => {
                let x = x.transpose(0, 1)?.unsqueeze(0)?.contiguous()?;
                candle_nn::rotary_emb::rope_i(&x, &self.cos, &self.sin)?.squeeze(0)?.transpose(0, 1)
            }
        }
    }
}
