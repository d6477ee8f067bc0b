//! Mixers that keep a state of fixed size instead of keys and values.

use super::{LinearSpec, NormSpec, TensorRef, TensorUse};

/// Heads with a matrix each, `[key_dim, value_dim]`, that a row reads by its query after it has written its value by its
/// key.
///
/// Queries, keys and values are linear in the row and pass a causal convolution and SiLU. A head's matrix decays by
/// `exp(rate * softplus(step + step_bias))`, `rate` being negative. Head `h` of `heads` has the query and the key of
/// `h / (heads / key_heads)`, or of `h % key_heads` where files order heads so. What heads read is normalised, gated by
/// SiLU, and multiplied with `output`.
///
/// Sources: gated delta rule, Yang et al. 2024, <https://arxiv.org/abs/2412.06464>; state spaces, Dao and Gu 2024,
/// <https://arxiv.org/abs/2405.21060>.
#[derive(Clone, Debug, PartialEq)]
pub struct RecurrentSpec {
    /// Number of matrices.
    pub heads: usize,
    /// Number of keys and queries; divides `heads`.
    pub key_heads: usize,
    /// Which keys heads read by.
    pub key_order: KeyOrder,
    /// Width of a key and of a query.
    pub key_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
    /// `[key_heads * key_dim, hidden_size]`.
    pub query: ConvolvedSpec,
    /// `[key_heads * key_dim, hidden_size]`.
    pub key: ConvolvedSpec,
    /// `[heads * value_dim, hidden_size]`.
    pub value: ConvolvedSpec,
    /// `[heads * value_dim, hidden_size]`.
    pub gate: LinearSpec,
    /// `[heads, hidden_size]`: how far a row moves each head.
    pub step: LinearSpec,
    /// `[heads]`.
    pub step_bias: TensorRef,
    /// The range that steps are cut to, after softplus.
    pub step_limits: Option<(f32, f32)>,
    /// `[heads]`.
    pub rate: TensorRef,
    /// How files hold the rates.
    pub rate_form: RateForm,
    /// How a row changes the matrices.
    pub rule: Rule,
    /// Of what heads read.
    pub norm: NormSpec,
    /// How the norm and the gate come together.
    pub gating: Gating,
    /// `[hidden_size, heads * value_dim]`.
    pub output: LinearSpec,
}

/// How a row changes the matrix of a head.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// What the key reads already is taken off the value, and `sigmoid(beta)` of the rest is written. Queries and keys
    /// have length one, and queries are divided by the root of `key_dim`.
    Delta {
        /// `[heads, hidden_size]`.
        beta: LinearSpec,
    },
    /// The value is written, multiplied by the step; `skip` of it is added to what is read.
    StateSpace {
        /// `[heads]`.
        skip: TensorRef,
    },
}

/// Which keys the heads read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrder {
    /// Heads of one key follow each other.
    Grouped,
    /// Heads of all keys alternate.
    Tiled,
}

/// How files hold the rates of decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateForm {
    /// As the logarithm of their size.
    Log,
    /// As they are.
    Negative,
}

/// How the norm and the gate of a mixer come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gating {
    /// Each head is normalised, then gated.
    NormFirst,
    /// A row is gated, then normalised in so many groups of the same width.
    GateFirst {
        /// How many groups.
        groups: usize,
    },
}

/// A linear part whose channels pass a causal convolution, each with its own weights.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvolvedSpec {
    /// What makes the channels.
    pub linear: LinearSpec,
    /// What they pass.
    pub conv: ConvSpec,
}

/// A causal convolution of channels: `y[t] = bias + sum of weight[j] * x[t - kernel + 1 + j]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvSpec {
    /// `[channels, kernel]`.
    pub weight: TensorRef,
    /// `[channels]`.
    pub bias: Option<TensorRef>,
    /// Number of channels.
    pub channels: usize,
    /// How many rows an output sees, its own included.
    pub kernel: usize,
}

/// `output(c * conv(b * x))`, with `b`, `c` and `x` linear in the row (LFM2).
#[derive(Clone, Debug, PartialEq)]
pub struct ShortConvSpec {
    /// `[hidden_size, hidden_size]`: `b`.
    pub before: LinearSpec,
    /// `[hidden_size, hidden_size]`: `c`.
    pub after: LinearSpec,
    /// `[hidden_size, hidden_size]`: `x`.
    pub value: LinearSpec,
    /// Over `hidden_size` channels.
    pub conv: ConvSpec,
    /// `[hidden_size, hidden_size]`.
    pub output: LinearSpec,
}

impl RecurrentSpec {
    /// Returns the parts that pass a convolution.
    pub fn convolved(&self) -> [&ConvolvedSpec; 3] {
        [&self.query, &self.key, &self.value]
    }

    /// Returns how wide what heads read is.
    pub fn inner(&self) -> usize {
        self.heads.saturating_mul(self.value_dim)
    }

    /// Returns how many numbers share a norm.
    pub fn norm_width(&self) -> usize {
        match self.gating {
            Gating::NormFirst => self.value_dim,
            Gating::GateFirst { groups } => self.inner() / groups.max(1),
        }
    }

    pub(super) fn collect<'a>(&'a self, all: &mut Vec<TensorUse<'a>>) {
        for ConvolvedSpec { linear, conv } in self.convolved() {
            linear.collect(all);
            conv.collect(all);
        }
        [&self.gate, &self.step, &self.output].into_iter().for_each(|linear| linear.collect(all));
        all.extend([&self.step_bias, &self.rate].map(|tensor| TensorUse::vector(tensor, self.heads)));
        match &self.rule {
            Rule::Delta { beta } => beta.collect(all),
            Rule::StateSpace { skip } => all.push(TensorUse::vector(skip, self.heads)),
        }
        let width = match self.gating {
            Gating::NormFirst => self.value_dim,
            Gating::GateFirst { .. } => self.inner(),
        };
        self.norm.collect(width, all);
    }
}

impl ConvSpec {
    fn collect<'a>(&'a self, all: &mut Vec<TensorUse<'a>>) {
        all.push(TensorUse::table(&self.weight, self.channels, self.kernel));
        all.extend(self.bias.as_ref().map(|bias| TensorUse::vector(bias, self.channels)));
    }
}

impl ShortConvSpec {
    pub(super) fn collect<'a>(&'a self, all: &mut Vec<TensorUse<'a>>) {
        [&self.before, &self.after, &self.value, &self.output]
            .into_iter()
            .for_each(|linear| linear.collect(all));
        self.conv.collect(all);
    }
}
