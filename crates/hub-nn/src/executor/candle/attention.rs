use std::ops::Range;

use candle_core::{D, Device, Result, Tensor};

use super::{
    Rope,
    matrix::Linear,
    mixer::Rows,
    norm::{Norm, maybe},
    rope::Angles,
    store::Span,
};
use crate::spec::{NormScope, QueryTemperature};

/// The most bytes of scores computed at a time; longer prompts go through in pieces of their rows.
const SCORE_BYTES: usize = 16 << 20;

/// Attention with its weights; [`spec::AttentionSpec`](crate::spec::AttentionSpec) says what each part is.
#[derive(Debug)]
pub(super) struct Attention {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) query: Linear,
    /// What keys and values are made with; none if they are those of another layer.
    pub(super) kv: Option<OwnKv>,
    pub(super) output: Linear,
    pub(super) query_norm: Option<Norm>,
    pub(super) norm_scope: NormScope,
    /// Which of the model's rotations turns queries and keys.
    pub(super) rope: Option<usize>,
    pub(super) scale: f32,
    pub(super) temperature: Option<QueryTemperature>,
    pub(super) window: Option<usize>,
    pub(super) soft_cap: Option<f32>,
    /// `[heads]`
    pub(super) sinks: Option<Tensor>,
    pub(super) gate: Option<Linear>,
}

/// What keys and values are made with.
#[derive(Debug)]
pub(super) struct OwnKv {
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) key_norm: Option<Norm>,
    pub(super) value_norm: Option<Norm>,
}

impl Attention {
    /// Mixes rows `[rows, hidden]` of several sequences.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        segments: &[Rows<'_>],
        (ropes, angles): (&[Rope], &[Angles]),
    ) -> Result<Tensor> {
        let rows = x.dim(0)?;
        let split = |x: Tensor, heads: usize| x.reshape((rows, heads, self.head_dim));
        let normed = |linear: &Linear, norm: &Option<Norm>, heads: usize| match self.norm_scope {
            NormScope::Head => maybe(norm, &split(linear.forward(x)?, heads)?),
            NormScope::EachHead => {
                let rows = split(linear.forward(x)?, heads)?;
                norm.as_ref().map_or(Ok(rows.clone()), |norm| norm.forward_heads(&rows))
            }
            NormScope::Row => split(maybe(norm, &linear.forward(x)?)?, heads),
        };
        let turn = |x: Tensor| match self.rope {
            Some(index) => angles[index].rotate(&x, ropes[index].spec()),
            None => Ok(x),
        };
        let queries = turn(normed(&self.query, &self.query_norm, self.heads)?)?;
        let mut queries = (queries * f64::from(self.scale))?;
        if let Some(temperature) = self.temperature {
            let of_segment = |segment: &Rows<'_>| segment.position..segment.position + segment.count;
            let factors: Vec<f32> =
                segments.iter().flat_map(of_segment).map(|position| temperature.at(position)).collect();
            queries = queries.broadcast_mul(&Tensor::from_vec(factors, (rows, 1, 1), x.device())?)?;
        }
        let own = self.kv.as_ref().map(|kv| {
            let keys = turn(normed(&kv.key, &kv.key_norm, self.kv_heads)?)?;
            let values = maybe(&kv.value_norm, &split(kv.value.forward(x)?, self.kv_heads)?)?;
            Ok::<_, candle_core::Error>((keys, values))
        });
        let own = own.transpose()?;

        let mixed = segments
            .iter()
            .map(|segment| {
                let part =
                    |x: &Tensor| x.narrow(0, segment.start, segment.count)?.transpose(0, 1)?.contiguous();
                let own = match &own {
                    Some((keys, values)) => Some(Span { keys: part(keys)?, values: part(values)? }),
                    None => None,
                };
                self.mix(&part(&queries)?, own, segment)
            })
            .collect::<Result<Vec<Tensor>>>()?;
        let mut mixed = Tensor::cat(&mixed, 0)?;
        if let Some(gate) = &self.gate {
            mixed = (mixed * candle_nn::ops::sigmoid(&gate.forward(x)?)?)?;
        }
        self.output.forward(&mixed)
    }

    /// Mixes the rows of one sequence: `queries` `[heads, rows, head_dim]`, keys and values `[kv_heads, rows,
    /// head_dim]`. Returns `[rows, heads * head_dim]`.
    fn mix(&self, queries: &Tensor, own: Option<Span>, segment: &Rows<'_>) -> Result<Tensor> {
        if let (Some(cache), Some(own)) = (&segment.cache, &own) {
            cache.write(&own.keys, &own.values, segment.position)?;
        }
        let end = segment.position + segment.count;
        let tile = (SCORE_BYTES / (4 * self.heads * end)).clamp(1, segment.count);
        let mut pieces = Vec::new();
        for first in (0..segment.count).step_by(tile) {
            let count = tile.min(segment.count - first);
            let queries = queries.narrow(1, first, count)?.contiguous()?;
            let Some(cache) = &segment.cache else {
                let window = self.window.filter(|window| *window < segment.count);
                let mask = window.map(|window| around(first..first + count, segment.count, window, &queries));
                pieces.push(self.attend(&queries, own.as_slice(), mask.transpose()?.as_ref())?);
                continue;
            };
            let (from, to) = (segment.position + first, segment.position + first + count);
            let seen = self.window.map_or(0, |window| (from + 1).saturating_sub(window));
            let mask = || mask(from, count, seen, self.window, queries.device());
            let mask = (count > 1).then(mask).transpose()?;
            pieces.push(self.attend(&queries, &cache.spans(seen, to)?, mask.as_ref())?);
        }
        Tensor::cat(&pieces, 0)
    }

    /// Softmax over scores, times values, span by span: keys and values are read where they lie.
    ///
    /// `queries` `[heads, rows, head_dim]`, scaled and contiguous. Returns `[rows, heads * head_dim]`.
    fn attend(&self, queries: &Tensor, spans: &[Span], mask: Option<&Tensor>) -> Result<Tensor> {
        let rows = queries.dim(1)?;
        let group = self.heads / self.kv_heads;
        let queries = queries.reshape((self.kv_heads, group * rows, self.head_dim))?;
        let scores = spans.iter().map(|span| queries.matmul(&span.keys.t()?)).collect::<Result<Vec<_>>>()?;
        let scores = Tensor::cat(&scores, D::Minus1)?;
        let scores = match self.soft_cap {
            Some(cap) => ((scores / f64::from(cap))?.tanh()? * f64::from(cap))?,
            None => scores,
        };
        let width = scores.dim(D::Minus1)?;
        let scores = scores.reshape((self.heads, rows, width))?;
        let scores = match mask {
            Some(mask) => scores.broadcast_add(mask)?,
            None => scores,
        };
        let weights = match &self.sinks {
            Some(sinks) => {
                let sinks = sinks.reshape((self.heads, 1, 1))?.broadcast_as((self.heads, rows, 1))?;
                let all = Tensor::cat(&[&scores, &sinks.contiguous()?], D::Minus1)?;
                candle_nn::ops::softmax_last_dim(&all)?.narrow(D::Minus1, 0, width)?.contiguous()?
            }
            None => candle_nn::ops::softmax_last_dim(&scores)?,
        };
        let weights = weights.reshape((self.kv_heads, group * rows, width))?;
        let mixed = weigh(&weights, spans)?;
        mixed
            .reshape((self.heads, rows, self.head_dim))?
            .transpose(0, 1)?
            .reshape((rows, self.heads * self.head_dim))
    }
}

/// Returns what hides the rows that the rows `from..from + count` must not see, among the positions
/// `seen..from + count`: 0 or minus infinity, `[rows, positions]`.
pub(super) fn mask(
    from: usize,
    count: usize,
    seen: usize,
    window: Option<usize>,
    device: &Device,
) -> Result<Tensor> {
    let window = window.unwrap_or(usize::MAX);
    let positions = seen..from + count;
    let width = positions.len();
    let hide = (from..from + count)
        .flat_map(|row| positions.clone().map(move |position| position > row || row - position >= window));
    let values = hide.map(|hidden| if hidden { f32::NEG_INFINITY } else { 0.0 }).collect();
    Tensor::from_vec(values, (count, width), device)
}

/// Returns what hides, of the `all` rows of a sequence that see both ways, those that are as far from `rows` as the
/// window or farther: 0 or minus infinity, `[rows, all]`.
fn around(rows: Range<usize>, all: usize, window: usize, like: &Tensor) -> Result<Tensor> {
    let count = rows.len();
    let hide = rows.flat_map(|row| (0..all).map(move |position| row.abs_diff(position) >= window));
    let values = hide.map(|hidden| if hidden { f32::NEG_INFINITY } else { 0.0 }).collect();
    Tensor::from_vec(values, (count, all), like.device())
}

/// Sums values by weights `[kv_heads, rows, positions]`, in the order of the positions.
fn weigh(weights: &Tensor, spans: &[Span]) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    let mut at = 0;
    for span in spans {
        let count = span.values.dim(1)?;
        let part = weights.narrow(D::Minus1, at, count)?.contiguous()?.matmul(&span.values)?;
        sum = Some(match sum {
            Some(sum) => (sum + part)?,
            None => part,
        });
        at += count;
    }
    match sum {
        Some(sum) => Ok(sum),
        None => candle_core::bail!("a row has no position to look at"),
    }
}
