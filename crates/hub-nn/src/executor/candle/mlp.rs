use candle_core::{Result, Tensor};

use super::{experts::Experts, matrix::Linear};
use crate::spec::Activation;

/// What works on each row alone, with its weights; [`spec::Mlp`](crate::spec::Mlp) says what each part is.
#[derive(Clone, Debug)]
pub(super) enum Mlp {
    Gated { gate: Linear, up: Linear, down: Linear, activation: Activation, sparsity: Option<f32> },
    Plain { up: Linear, down: Linear, activation: Activation },
    Experts(Box<Experts>),
}

impl Mlp {
    /// Computes rows `x`; some experts read the residual beside them.
    pub(super) fn forward(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gated { gate, up, down, activation, sparsity } => {
                let gates = gate.forward(x)?;
                let gates = match sparsity {
                    Some(sparsity) => cut(&gates, *sparsity)?,
                    None => gates,
                };
                down.forward(&gated(*activation, &gates, &up.forward(x)?)?)
            }
            Self::Plain { up, down, activation } => down.forward(&activate(*activation, &up.forward(x)?)?),
            Self::Experts(experts) => experts.forward(x, residual),
        }
    }
}

/// Leaves of each row what is so many standard deviations above its mean.
fn cut(gates: &Tensor, sparsity: f32) -> Result<Tensor> {
    let mean = gates.mean_keepdim(1)?;
    let deviation = gates.broadcast_sub(&mean)?.sqr()?.mean_keepdim(1)?.sqrt()?;
    gates.broadcast_sub(&(mean + deviation * f64::from(sparsity))?)?.relu()
}

fn gated(activation: Activation, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    match activation {
        Activation::ClampedSwish { limit, .. } => {
            activate(activation, gate)? * (up.clamp(-limit, limit)? + 1.0)?
        }
        _ => activate(activation, gate)? * up,
    }
}

pub(super) fn activate(activation: Activation, x: &Tensor) -> Result<Tensor> {
    match activation {
        Activation::ClampedSwish { slope, limit } => {
            let x = x.minimum(limit)?;
            let sigmoid = candle_nn::ops::sigmoid(&(&x * f64::from(slope))?)?;
            x * sigmoid
        }
        Activation::Silu => x.silu(),
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => x.gelu(),
        Activation::Relu => x.relu(),
        Activation::Tanh => x.tanh(),
    }
}
