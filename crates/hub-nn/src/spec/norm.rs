use super::{TensorRef, TensorUse};

/// A normalisation of each row (or of each head, for queries and keys).
#[derive(Clone, Debug, PartialEq)]
pub struct NormSpec {
    /// Which normalisation.
    pub kind: NormKind,
    /// Added to the mean square, or to the variance, before the root.
    pub eps: f32,
    /// `[width]`.
    pub weight: TensorRef,
    /// `[width]`; LayerNorm only.
    pub bias: Option<TensorRef>,
    /// Added to the weight when it is read: 1 where files hold the distance from one (Gemma's Hugging Face folders).
    pub weight_offset: f32,
}

/// Which normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// By the root of the mean square. Source: Zhang and Sennrich 2019, <https://arxiv.org/abs/1910.07467>.
    Rms,
    /// By mean and standard deviation. Source: Ba et al. 2016, <https://arxiv.org/abs/1607.06450>.
    Layer,
}

/// The normalisations around one sublayer: `last(x + after(sublayer(before(x))) * residual_scale)`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SublayerNorms {
    /// Of what the sublayer reads: pre-norm, most decoders.
    pub before: Option<NormSpec>,
    /// Of what the sublayer returns: with `before`, the sandwich of Gemma 2 and 3.
    pub after: Option<NormSpec>,
    /// Of the sum with the residual: post-norm, BERT.
    pub last: Option<NormSpec>,
}

impl NormSpec {
    pub(super) fn collect<'a>(&'a self, width: usize, all: &mut Vec<TensorUse<'a>>) {
        let tensors = [Some(&self.weight), self.bias.as_ref()].into_iter().flatten();
        all.extend(tensors.map(|tensor| TensorUse::vector(tensor, width)));
    }
}

impl SublayerNorms {
    /// Normalises only what the sublayer reads.
    pub fn pre(norm: NormSpec) -> Self {
        Self { before: Some(norm), ..Self::default() }
    }

    /// Normalises only the sum with the residual.
    pub fn post(norm: NormSpec) -> Self {
        Self { last: Some(norm), ..Self::default() }
    }

    pub(super) fn collect<'a>(&'a self, width: usize, all: &mut Vec<TensorUse<'a>>) {
        for norm in [&self.before, &self.after, &self.last].into_iter().flatten() {
            norm.collect(width, all);
        }
    }
}
