use candle_core::{Result, Tensor};

use super::{
    matrix::{Linear, Matrix},
    mlp::activate,
    norm::Norm,
};
use crate::spec::Activation;

/// A second embedding; [`spec::PerLayerEmbedding`](crate::spec::PerLayerEmbedding) says what each part is.
#[derive(Debug)]
pub(super) struct PerLayerTable {
    pub(super) width: usize,
    pub(super) vocab_size: usize,
    pub(super) other_token: Option<u32>,
    pub(super) table: Matrix,
    pub(super) table_scale: f32,
    pub(super) projection: Linear,
    pub(super) projection_scale: f32,
    pub(super) norm: Norm,
    pub(super) scale: f32,
}

/// What a layer does with its part; [`spec::PerLayerSpec`](crate::spec::PerLayerSpec) says what each part is.
#[derive(Debug)]
pub(super) struct PerLayer {
    pub(super) gate: Linear,
    pub(super) activation: Activation,
    pub(super) projection: Linear,
    pub(super) norm: Norm,
}

impl PerLayerTable {
    /// Returns the parts of all layers for rows that enter the first one: `[rows, layers, width]`.
    pub(super) fn parts(&self, x: &Tensor, tokens: &[u32]) -> Result<Tensor> {
        let known = |token: u32| match self.other_token {
            _ if (token as usize) < self.vocab_size => Ok(token),
            Some(other) => Ok(other),
            None => {
                candle_core::bail!("token {token} is outside the second embedding of {}", self.vocab_size)
            }
        };
        let rows = tokens.len();
        let ids = tokens.iter().map(|token| known(*token)).collect::<Result<Vec<_>>>()?;
        let ids = Tensor::from_vec(ids, rows, x.device())?;
        let looked_up = (self.table.rows(&ids)? * f64::from(self.table_scale))?;
        let projected = (self.projection.forward(x)? * f64::from(self.projection_scale))?;
        let layers = projected.dim(1)? / self.width;
        let shape = (rows, layers, self.width);
        let projected = self.norm.forward(&projected.reshape(shape)?)?;
        (projected + looked_up.reshape(shape)?)? * f64::from(self.scale)
    }
}

impl PerLayer {
    /// Returns what the layer with number `index` makes of its part, gated by rows `x`.
    pub(super) fn forward(&self, x: &Tensor, index: usize, parts: &Tensor) -> Result<Tensor> {
        let part = parts.narrow(1, index, 1)?.squeeze(1)?;
        let gated = (activate(self.activation, &self.gate.forward(x)?)? * part)?;
        self.norm.forward(&self.projection.forward(&gated)?)
    }
}
