use candle_core::{Result, Tensor};

use crate::spec::NormKind;

/// A normalisation with its weights.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    pub(super) kind: NormKind,
    pub(super) eps: f32,
    /// `[width]`, the offset already added.
    pub(super) weight: Tensor,
    /// `[width]`.
    pub(super) bias: Tensor,
}

/// The normalisations around one sublayer.
#[derive(Clone, Debug)]
pub(super) struct Norms {
    pub(super) before: Option<Norm>,
    pub(super) after: Option<Norm>,
    pub(super) last: Option<Norm>,
}

impl Norm {
    /// Normalises the last axis of `x`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.contiguous()?;
        match self.kind {
            NormKind::Rms => candle_nn::ops::rms_norm(&x, &self.weight, self.eps),
            NormKind::Layer => candle_nn::ops::layer_norm(&x, &self.weight, &self.bias, self.eps),
        }
    }

    /// Normalises the last axis of `[rows, heads, width]`, each head by weights of its own.
    pub(super) fn forward_heads(&self, x: &Tensor) -> Result<Tensor> {
        let (_, heads, width) = x.dims3()?;
        let weight = self.weight.reshape((heads, width))?;
        let bias = self.bias.reshape((heads, width))?;
        let plain =
            Self { weight: weight.get(0)?.ones_like()?, bias: bias.get(0)?.zeros_like()?, ..self.clone() };
        plain.forward(x)?.broadcast_mul(&weight)?.broadcast_add(&bias)
    }
}

impl Norms {
    /// Runs a sublayer on the residual `x` as [`SublayerNorms`](crate::spec::SublayerNorms) says.
    pub(super) fn around(
        &self,
        x: &Tensor,
        residual_scale: f32,
        sublayer: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let output = sublayer(&maybe(&self.before, x)?)?;
        let output = maybe(&self.after, &output)?;
        let output = if residual_scale == 1.0 { output } else { (output * f64::from(residual_scale))? };
        maybe(&self.last, &(x + output)?)
    }
}

/// Normalises if there is anything to normalise with.
pub(super) fn maybe(norm: &Option<Norm>, x: &Tensor) -> Result<Tensor> {
    match norm {
        Some(norm) => norm.forward(x),
        None => Ok(x.clone()),
    }
}
