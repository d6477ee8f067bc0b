use super::{ExpertsSpec, LinearSpec, TensorUse};

/// What works on each row alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Mlp {
    /// `down(activation(gate(x)) * up(x))`. Source: Shazeer 2020, <https://arxiv.org/abs/2002.05202>.
    Gated {
        /// `[inner, hidden_size]`, through the activation.
        gate: LinearSpec,
        /// `[inner, hidden_size]`.
        up: LinearSpec,
        /// `[hidden_size, inner]`.
        down: LinearSpec,
        /// Applied to the gate.
        activation: Activation,
        /// How many standard deviations above the mean of its row a gate must be to count, and from where it counts:
        /// the activation is applied to `max(gate - (mean + sparsity * deviation), 0)` (Gemma 3n). All count if `None`.
        sparsity: Option<f32>,
    },
    /// `down(activation(up(x)))`.
    Plain {
        /// `[inner, hidden_size]`.
        up: LinearSpec,
        /// `[hidden_size, inner]`.
        down: LinearSpec,
        /// Applied between the two.
        activation: Activation,
    },
    /// Several MLPs, of which each row goes through a few.
    Experts(Box<ExpertsSpec>),
}

/// A function of one number, or of a gate and what it is multiplied with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// `x * Φ(x)` by the error function.
    Gelu,
    /// `x * Φ(x)` by its tanh approximation.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// The hyperbolic tangent.
    Tanh,
    /// Of a gate `g` and `up`: `g * sigmoid(slope * g) * (up + 1)`, with `g` at most `limit` and `up` within it on both
    /// sides (gpt-oss). MLPs without a gate have none. Source: `transformers`' `GptOssExperts`.
    ClampedSwish {
        /// How steep the sigmoid is.
        slope: f32,
        /// Where gate and `up` are cut.
        limit: f32,
    },
}

impl Mlp {
    pub(super) fn collect<'a>(&'a self, hidden_size: usize, all: &mut Vec<TensorUse<'a>>) {
        match self {
            Self::Gated { gate, up, down, .. } => {
                [gate, up, down].into_iter().for_each(|linear| linear.collect(all))
            }
            Self::Plain { up, down, .. } => [up, down].into_iter().for_each(|linear| linear.collect(all)),
            Self::Experts(experts) => experts.collect(hidden_size, all),
        }
    }
}
