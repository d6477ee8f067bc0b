use candle_core::{Result, Tensor};

use super::{
    matrix::Linear,
    mlp::activate,
    norm::{Norm, maybe},
};
use crate::spec::{Activation, RowPooling};

/// What is computed of a whole sequence, with its weights; [`spec::PooledSpec`](crate::spec::PooledSpec) says what each
/// part is.
#[derive(Debug)]
pub(super) struct Pooled {
    pub(super) pooling: RowPooling,
    pub(super) layers: Vec<PooledLayer>,
}

#[derive(Debug)]
pub(super) struct PooledLayer {
    pub(super) linear: Linear,
    pub(super) activation: Option<Activation>,
    pub(super) norm: Option<Norm>,
}

impl Pooled {
    /// Computes the wanted rows `x` of all segments, of which `counts` says how many each has.
    pub(super) fn forward(&self, x: &Tensor, counts: impl Iterator<Item = usize>) -> Result<Tensor> {
        let mut x = match self.pooling {
            RowPooling::First | RowPooling::Last => x.clone(),
            RowPooling::Mean => means(x, counts)?,
        };
        for PooledLayer { linear, activation, norm } in &self.layers {
            x = linear.forward(&x)?;
            if let Some(activation) = activation {
                x = activate(*activation, &x)?;
            }
            x = maybe(norm, &x)?;
        }
        Ok(x)
    }
}

/// Takes the mean of the rows of each segment.
fn means(x: &Tensor, counts: impl Iterator<Item = usize>) -> Result<Tensor> {
    let mut at = 0;
    let mean = |count: usize| {
        at += count;
        x.narrow(0, at - count, count)?.mean_keepdim(0)
    };
    let means = counts.filter(|count| *count > 0).map(mean).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&means, 0)
}
