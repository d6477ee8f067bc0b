use candle_core::{Result, Tensor};

use super::{matrix::Linear, norm::Norm};

/// Residual streams beside the first; [`spec::StreamsSpec`](crate::spec::StreamsSpec) says what each part is.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) projections: Vec<Linear>,
    pub(super) unembed_projections: Vec<Linear>,
    pub(super) least_square: f32,
}

/// How a layer goes about with them; [`spec::AltUpSpec`](crate::spec::AltUpSpec) says what each part is.
#[derive(Debug)]
pub(super) struct AltUp {
    pub(super) router: Linear,
    pub(super) router_norm: Norm,
    pub(super) router_scale: f32,
    pub(super) prediction: Tensor,
    pub(super) correction: Tensor,
    pub(super) output_scale: Option<Tensor>,
}

/// A path beside the mixer; [`spec::LaurelSpec`](crate::spec::LaurelSpec) says what each part is.
#[derive(Debug)]
pub(super) struct Laurel {
    pub(super) left: Linear,
    pub(super) right: Linear,
    pub(super) norm: Norm,
    pub(super) scale: f32,
}

impl Streams {
    /// Makes all streams of rows `x`, `[rows, hidden]`.
    pub(super) fn split(&self, x: Tensor) -> Result<Vec<Tensor>> {
        let magnitude = mean_square(&x)?.sqrt()?;
        let others = self.projections.iter().map(|projection| self.scaled(projection, &x, &magnitude));
        let others = others.collect::<Result<Vec<_>>>()?;
        Ok(std::iter::once(x).chain(others).collect())
    }

    /// Makes the last hidden states of all streams.
    pub(super) fn merge(&self, streams: &[Tensor]) -> Result<Tensor> {
        let magnitude = mean_square(&streams[0])?.sqrt()?;
        let mut sum = streams[0].clone();
        for (projection, stream) in self.unembed_projections.iter().zip(&streams[1..]) {
            sum = (sum + self.scaled(projection, stream, &magnitude)?)?;
        }
        sum / streams.len() as f64
    }

    /// Projects rows, and scales each to its magnitude.
    fn scaled(&self, projection: &Linear, x: &Tensor, magnitude: &Tensor) -> Result<Tensor> {
        let projected = projection.forward(x)?;
        let own = mean_square(&projected)?.maximum(f64::from(self.least_square))?.sqrt()?;
        projected.broadcast_mul(magnitude)?.broadcast_div(&own)
    }
}

fn mean_square(x: &Tensor) -> Result<Tensor> {
    x.sqr()?.mean_keepdim(1)
}

impl AltUp {
    /// Returns what tells how streams mix, of rows of the first: `[rows, streams]`.
    fn modalities(&self, x: &Tensor) -> Result<Tensor> {
        (self.router.forward(&self.router_norm.forward(x)?)? * f64::from(self.router_scale))?.tanh()
    }

    /// Predicts all streams.
    pub(super) fn predict(&self, streams: &[Tensor]) -> Result<Vec<Tensor>> {
        let shares = self.modalities(&streams[0])?.matmul(&self.prediction.t()?)?;
        let predict = |index: usize| {
            let mut sum = streams[index].clone();
            for (other, stream) in streams.iter().enumerate() {
                let share = shares.narrow(1, index * streams.len() + other, 1)?;
                sum = (sum + stream.broadcast_mul(&share)?)?;
            }
            Ok(sum)
        };
        (0..streams.len()).map(predict).collect()
    }

    /// Corrects all streams by rows that the layer made of the first.
    pub(super) fn correct(&self, predicted: &[Tensor], made: &Tensor) -> Result<Vec<Tensor>> {
        let shares = (self.modalities(made)?.matmul(&self.correction.t()?)? + 1.0)?;
        let difference = (made - &predicted[0])?;
        let correct = |(index, stream): (usize, &Tensor)| {
            stream + difference.broadcast_mul(&shares.narrow(1, index, 1)?)?
        };
        predicted.iter().enumerate().map(correct).collect()
    }

    /// Returns rows of the first stream as the second embedding is gated by them.
    pub(super) fn scaled(&self, x: &Tensor) -> Result<Tensor> {
        match &self.output_scale {
            Some(scale) => x.broadcast_mul(scale),
            None => Ok(x.clone()),
        }
    }
}

impl Laurel {
    /// Adds the path to the residual, of rows that the mixer read.
    pub(super) fn add(&self, residual: &Tensor, x: &Tensor) -> Result<Tensor> {
        let beside = self.norm.forward(&self.right.forward(&self.left.forward(x)?)?)?;
        ((residual + x)? + beside)? * f64::from(self.scale)
    }
}
