use candle_core::{D, Result, Tensor};

use super::{matrix::Linear, mixer::Rows, norm::Norm, store::LayerCache};
use crate::spec::{Gating, KeyOrder};

/// Added to the square of a query's or a key's length before the root; as in `transformers`.
const UNIT_EPS: f64 = 1e-6;

/// Heads with a matrix each; [`spec::RecurrentSpec`](crate::spec::RecurrentSpec) says what each part is.
#[derive(Debug)]
pub(super) struct Recurrent {
    pub(super) heads: usize,
    pub(super) key_heads: usize,
    pub(super) key_order: KeyOrder,
    pub(super) key_dim: usize,
    pub(super) value_dim: usize,
    /// Queries, keys and values.
    pub(super) linears: [Linear; 3],
    /// Over all three.
    pub(super) conv: Conv,
    pub(super) gate: Linear,
    pub(super) step: Linear,
    /// `[heads]`
    pub(super) step_bias: Tensor,
    pub(super) step_limits: Option<(f32, f32)>,
    /// `[heads]`, negative.
    pub(super) rate: Tensor,
    pub(super) rule: Rule,
    pub(super) norm: Norm,
    pub(super) gating: Gating,
    pub(super) output: Linear,
}

/// How a row changes the matrices.
#[derive(Debug)]
pub(super) enum Rule {
    Delta {
        beta: Linear,
    },
    StateSpace {
        /// `[heads]`
        skip: Tensor,
    },
}

/// A convolution between two gates; [`spec::ShortConvSpec`](crate::spec::ShortConvSpec) says what each part is.
#[derive(Debug)]
pub(super) struct ShortConv {
    pub(super) before: Linear,
    pub(super) after: Linear,
    pub(super) value: Linear,
    pub(super) conv: Conv,
    pub(super) output: Linear,
}

/// A causal convolution.
#[derive(Debug)]
pub(super) struct Conv {
    /// `[channels, kernel]`
    pub(super) weight: Tensor,
    /// `[channels]`
    pub(super) bias: Option<Tensor>,
}

/// What each row of one sequence brings, by head.
struct Brought {
    /// `[rows, heads, key_dim]`
    queries: Tensor,
    keys: Tensor,
    /// `[rows, heads, value_dim]`
    values: Tensor,
    /// `[rows, heads]`
    decays: Tensor,
    shares: Tensor,
}

impl Recurrent {
    pub(super) fn forward(&self, x: &Tensor, segments: &[Rows<'_>]) -> Result<Tensor> {
        let linears = self.linears.iter().map(|linear| linear.forward(x)).collect::<Result<Vec<_>>>()?;
        let linear = Tensor::cat(&linears, 1)?;
        let steps = softplus(&self.step.forward(x)?.broadcast_add(&self.step_bias)?)?;
        let steps = match self.step_limits {
            Some((low, high)) => steps.clamp(low, high)?,
            None => steps,
        };
        let decays = steps.broadcast_mul(&self.rate)?.exp()?;
        let shares = match &self.rule {
            Rule::Delta { beta } => candle_nn::ops::sigmoid(&beta.forward(x)?)?,
            Rule::StateSpace { .. } => steps,
        };
        let read = segments
            .iter()
            .map(|segment| {
                let part = |all: &Tensor| all.narrow(0, segment.start, segment.count);
                let cache = kept(segment)?;
                let convolved = self.conv.forward(&part(&linear)?, cache)?.silu()?;
                self.scan(&self.brought(&convolved, part(&decays)?, part(&shares)?)?, cache)
            })
            .collect::<Result<Vec<_>>>()?;
        self.finish(&Tensor::cat(&read, 0)?, &self.gate.forward(x)?)
    }

    /// Takes what passed the convolution apart.
    fn brought(&self, convolved: &Tensor, decays: Tensor, shares: Tensor) -> Result<Brought> {
        let (rows, keys) = (convolved.dim(0)?, self.key_heads * self.key_dim);
        let group = self.heads / self.key_heads;
        let order: Vec<u32> = (0..self.heads)
            .map(|head| match self.key_order {
                KeyOrder::Grouped => head / group,
                KeyOrder::Tiled => head % self.key_heads,
            } as u32)
            .collect();
        let order = Tensor::from_vec(order, self.heads, convolved.device())?;
        let by_head = |start: usize| {
            let heads = convolved.narrow(1, start, keys)?.reshape((rows, self.key_heads, self.key_dim))?;
            let heads = match &self.rule {
                Rule::Delta { .. } => {
                    let squares = (heads.sqr()?.sum_keepdim(D::Minus1)? + UNIT_EPS)?;
                    heads.broadcast_div(&squares.sqrt()?)?
                }
                Rule::StateSpace { .. } => heads,
            };
            heads.contiguous()?.index_select(&order, 1)
        };
        let scale = match &self.rule {
            Rule::Delta { .. } => 1.0 / (self.key_dim as f64).sqrt(),
            Rule::StateSpace { .. } => 1.0,
        };
        let values = convolved.narrow(1, 2 * keys, self.heads * self.value_dim)?;
        let values = values.reshape((rows, self.heads, self.value_dim))?;
        Ok(Brought { queries: (by_head(0)? * scale)?, keys: by_head(keys)?, values, decays, shares })
    }

    /// Lets rows pass the matrices, one after another: `[rows, heads, value_dim]`.
    fn scan(&self, rows: &Brought, cache: &LayerCache<'_>) -> Result<Tensor> {
        let mut matrices = cache.matrices((self.heads, self.key_dim, self.value_dim))?;
        let mut read = Vec::new();
        for row in 0..rows.values.dim(0)? {
            // Numbers of a head as a column or a row of its matrix.
            let column = |x: &Tensor| x.get(row)?.unsqueeze(2);
            let line = |x: &Tensor| x.get(row)?.unsqueeze(1);
            let number = |x: &Tensor| x.get(row)?.reshape((self.heads, 1, 1));
            let (key, value) = (column(&rows.keys)?, line(&rows.values)?);
            matrices = matrices.broadcast_mul(&number(&rows.decays)?)?;
            let news = match &self.rule {
                Rule::Delta { .. } => (&value - matrices.broadcast_mul(&key)?.sum_keepdim(1)?)?,
                Rule::StateSpace { .. } => value.clone(),
            };
            let news = news.broadcast_mul(&number(&rows.shares)?)?;
            matrices = (matrices + key.broadcast_mul(&news)?)?;
            let mut found = matrices.broadcast_mul(&column(&rows.queries)?)?.sum_keepdim(1)?;
            if let Rule::StateSpace { skip } = &self.rule {
                found = (found + value.broadcast_mul(&skip.reshape((self.heads, 1, 1))?)?)?;
            }
            read.push(found.squeeze(1)?);
        }
        cache.keep_matrices(&matrices)?;
        Tensor::stack(&read, 0)
    }

    /// Normalises and gates what heads read, and multiplies it with the output matrix.
    fn finish(&self, read: &Tensor, gates: &Tensor) -> Result<Tensor> {
        let rows = read.dim(0)?;
        let inner = self.heads * self.value_dim;
        let gates = gates.silu()?;
        let mixed = match self.gating {
            Gating::NormFirst => (self.norm.forward(read)?.reshape((rows, inner))? * gates)?,
            Gating::GateFirst { groups } => {
                let gated =
                    (read.reshape((rows, inner))? * gates)?.reshape((rows, groups, inner / groups))?;
                let squares = (gated.sqr()?.mean_keepdim(D::Minus1)? + f64::from(self.norm.eps))?;
                gated
                    .broadcast_div(&squares.sqrt()?)?
                    .reshape((rows, inner))?
                    .broadcast_mul(&self.norm.weight)?
            }
        };
        self.output.forward(&mixed)
    }
}

impl ShortConv {
    pub(super) fn forward(&self, x: &Tensor, segments: &[Rows<'_>]) -> Result<Tensor> {
        let gated = (self.before.forward(x)? * self.value.forward(x)?)?;
        let convolved = segments
            .iter()
            .map(|segment| self.conv.forward(&gated.narrow(0, segment.start, segment.count)?, kept(segment)?))
            .collect::<Result<Vec<_>>>()?;
        self.output.forward(&(Tensor::cat(&convolved, 0)? * self.after.forward(x)?)?)
    }
}

impl Conv {
    /// Convolves the rows `[rows, channels]` of one sequence, and keeps the last of them.
    fn forward(&self, x: &Tensor, cache: &LayerCache<'_>) -> Result<Tensor> {
        let (rows, channels) = x.dims2()?;
        let kernel = self.weight.dim(1)?;
        let all = Tensor::cat(&[&cache.tail((kernel - 1, channels))?, x], 0)?;
        let mut sum = match &self.bias {
            Some(bias) => x.zeros_like()?.broadcast_add(bias)?,
            None => x.zeros_like()?,
        };
        for tap in 0..kernel {
            let weight = self.weight.narrow(1, tap, 1)?.flatten_all()?;
            sum = (sum + all.narrow(0, tap, rows)?.broadcast_mul(&weight)?)?;
        }
        cache.keep_tail(&all.narrow(0, rows, kernel - 1)?)?;
        Ok(sum)
    }
}

fn kept<'a>(segment: &'a Rows<'_>) -> Result<&'a LayerCache<'a>> {
    match &segment.cache {
        Some(cache) => Ok(cache),
        None => candle_core::bail!("a sequence without a state"),
    }
}

/// `ln(1 + exp(x))`, which is `x` where the rest is lost; as in PyTorch.
fn softplus(x: &Tensor) -> Result<Tensor> {
    // Both parts are finite for any x: max(x, 0) + ln(1 + exp(-|x|)).
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?
}
