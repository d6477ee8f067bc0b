use candle_core::{Result, Tensor};

use super::{experts::Experts, matrix::Linear};
use crate::spec::Activation;

/// What works on each row alone, with its weights; [`spec::Mlp`](crate::spec::Mlp) says what each part is.
#[derive(Clone, Debug)]
pub(super) enum Mlp {
    Gated { gate: Linear, up: Linear, down: Linear, activation: Activation },
    Plain { up: Linear, down: Linear, activation: Activation },
    Experts(Box<Experts>),
}

impl Mlp {
    /// Computes rows `x`; some experts read the residual beside them.
    pub(super) fn forward(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gated { gate, up, down, activation } => {
                down.forward(&gated(*activation, &gate.forward(x)?, &up.forward(x)?)?)
            }
            Self::Plain { up, down, activation } => down.forward(&activate(*activation, &up.forward(x)?)?),
            Self::Experts(experts) => experts.forward(x, residual),
        }
    }
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
    }
}
