use candle_core::{D, Result, Tensor};

use super::{Rope, attention::mask, matrix::Linear, mixer::Rows, norm::Norm, rope::Angles};

/// Latent attention with its weights, which makes keys and values of latent rows;
/// [`spec::LatentSpec`](crate::spec::LatentSpec) says what each part is.
#[derive(Debug)]
pub(super) struct Latent {
    pub(super) heads: usize,
    pub(super) rank: usize,
    pub(super) nope_dim: usize,
    pub(super) rope_dim: usize,
    pub(super) value_dim: usize,
    pub(super) query_latent: Option<(Linear, Norm)>,
    pub(super) query: Linear,
    pub(super) latent: Linear,
    pub(super) latent_norm: Norm,
    pub(super) key_rope: Linear,
    /// `[heads, nope_dim, rank]`
    pub(super) key: Tensor,
    /// `[heads, value_dim, rank]`
    pub(super) value: Tensor,
    pub(super) output: Linear,
    pub(super) rope: usize,
    pub(super) scale: f32,
}

impl Latent {
    pub(super) fn forward(
        &self,
        x: &Tensor,
        segments: &[Rows<'_>],
        (ropes, angles): (&[Rope], &[Angles]),
    ) -> Result<Tensor> {
        let rows = x.dim(0)?;
        let queries = match &self.query_latent {
            Some((linear, norm)) => self.query.forward(&norm.forward(&linear.forward(x)?)?)?,
            None => self.query.forward(x)?,
        };
        let queries = queries.reshape((rows, self.heads, self.nope_dim + self.rope_dim))?;
        let (rope, angles) = (ropes[self.rope].spec(), &angles[self.rope]);
        let turn = |heads: &Tensor| angles.rotate(&heads.contiguous()?, rope);
        let rotated = turn(&queries.narrow(2, self.nope_dim, self.rope_dim)?)?;
        let queries = Tensor::cat(&[&queries.narrow(2, 0, self.nope_dim)?, &rotated], 2)?;
        let latents = self.latent_norm.forward(&self.latent.forward(x)?)?;
        let shared = turn(&self.key_rope.forward(x)?.reshape((rows, 1, self.rope_dim))?)?;
        let keys = Tensor::cat(&[&latents, &shared.reshape((rows, self.rope_dim))?], 1)?;
        let mixed = segments
            .iter()
            .map(|segment| {
                let part = |all: &Tensor| all.narrow(0, segment.start, segment.count);
                self.mix(&part(&queries)?, &part(&keys)?, &part(&latents)?, segment)
            })
            .collect::<Result<Vec<_>>>()?;
        self.output.forward(&Tensor::cat(&mixed, 0)?)
    }

    /// Mixes the rows of one sequence: queries `[rows, heads, nope_dim + rope_dim]`, keys `[rows, rank + rope_dim]`, latent
    /// rows `[rows, rank]`. Returns `[rows, heads * value_dim]`.
    fn mix(&self, queries: &Tensor, keys: &Tensor, latents: &Tensor, segment: &Rows<'_>) -> Result<Tensor> {
        let Some(cache) = &segment.cache else { candle_core::bail!("a sequence without a state") };
        cache.write(
            &keys.unsqueeze(0)?.contiguous()?,
            &latents.unsqueeze(0)?.contiguous()?,
            segment.position,
        )?;
        let end = segment.position + segment.count;
        let spans = cache.spans(0, end)?;
        let all = spans.iter().map(|span| span.keys.squeeze(0)).collect::<Result<Vec<_>>>()?;
        let all = Tensor::cat(&all, 0)?;
        let (latents, shared) = (all.narrow(1, 0, self.rank)?, all.narrow(1, self.rank, self.rope_dim)?);
        let latents = latents.contiguous()?.broadcast_left(self.heads)?.contiguous()?;
        let made = latents.matmul(&self.key.transpose(1, 2)?.contiguous()?)?;
        let shared = shared.contiguous()?.broadcast_left(self.heads)?;
        let keys = Tensor::cat(&[&made, &shared.contiguous()?], 2)?;
        let values = latents.matmul(&self.value.transpose(1, 2)?.contiguous()?)?;
        let queries = (queries.transpose(0, 1)?.contiguous()? * f64::from(self.scale))?;
        let mut scores = queries.matmul(&keys.transpose(1, 2)?.contiguous()?)?;
        if segment.count > 1 {
            scores =
                scores.broadcast_add(&mask(segment.position, segment.count, 0, None, queries.device())?)?;
        }
        debug_assert_eq!(scores.dim(D::Minus1)?, end);
        let mixed = candle_nn::ops::softmax_last_dim(&scores)?.matmul(&values)?;
        mixed.transpose(0, 1)?.reshape((segment.count, self.heads * self.value_dim))
    }
}
