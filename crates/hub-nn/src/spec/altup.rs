use super::{LinearSpec, NormSpec, TensorRef, TensorUse};

/// Several residual streams: layers compute the first, and predict and correct the others by it (AltUp, Gemma 3n).
///
/// Stream `i` begins as a projection of the embedding and ends through a projection of its own; both times its row is
/// scaled to the magnitude (the root of the mean square) of the first stream's. The mean of all is the last hidden state.
/// Source: Baykal et al. 2023, <https://arxiv.org/abs/2301.13310>, as `transformers`' `Gemma3nTextModel` has it.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamsSpec {
    /// `[hidden_size, hidden_size]` for each stream but the first: makes it of the embedding.
    pub projections: Vec<LinearSpec>,
    /// The same at the end.
    pub unembed_projections: Vec<LinearSpec>,
    /// The mean square that a row has at least when it is scaled.
    pub least_square: f32,
}

/// How a layer goes about with `n` residual streams, of which its mixer and MLP compute the first.
///
/// `modalities(x) = tanh(router(router_norm(x)) * router_scale)` are `n` numbers. Before the layer, stream `i` is predicted:
/// `p[i] = s[i] + sum over j of (prediction · modalities(s[0]))[i * n + j] * s[j]`. What the layer makes of `p[0]` is `y`, and
/// corrects them all: `s[i] = p[i] + (y - p[0]) * (1 + (correction · modalities(y))[i])`. The layer's part of a second embedding
/// is gated by `s[0] * output_scale`, and added to all streams but the first. Source: `transformers`' `Gemma3nTextAltUp`.
#[derive(Clone, Debug, PartialEq)]
pub struct AltUpSpec {
    /// `[n, hidden_size]`.
    pub router: LinearSpec,
    /// Normalises what the router reads.
    pub router_norm: NormSpec,
    /// Multiplier of the router's product.
    pub router_scale: f32,
    /// `[n * n, n]`.
    pub prediction: TensorRef,
    /// `[n, n]`.
    pub correction: TensorRef,
    /// `[hidden_size]`, if there is one.
    pub output_scale: Option<TensorRef>,
}

/// A low-rank path beside the mixer (LAuReL, Gemma 3n).
///
/// Of `h`, which the mixer reads, and `m`, the residual after the mixer, it makes `(m + h + norm(right(left(h)))) * scale`.
/// Source: Menghani et al. 2024, <https://arxiv.org/abs/2411.07501>, as `transformers`' `Gemma3nTextLaurelBlock` has it.
#[derive(Clone, Debug, PartialEq)]
pub struct LaurelSpec {
    /// `[rank, hidden_size]`.
    pub left: LinearSpec,
    /// `[hidden_size, rank]`.
    pub right: LinearSpec,
    /// Normalises what the two make.
    pub norm: NormSpec,
    /// Multiplier of the sum.
    pub scale: f32,
}

impl StreamsSpec {
    /// Returns how many streams there are.
    pub fn count(&self) -> usize {
        self.projections.len() + 1
    }

    pub(super) fn collect<'a>(&'a self, all: &mut Vec<TensorUse<'a>>) {
        self.projections.iter().chain(&self.unembed_projections).for_each(|linear| linear.collect(all));
    }
}

impl AltUpSpec {
    pub(super) fn collect<'a>(&'a self, hidden_size: usize, all: &mut Vec<TensorUse<'a>>) {
        let count = self.router.outputs;
        self.router.collect(all);
        self.router_norm.collect(hidden_size, all);
        // A few numbers, which no executor packs.
        all.push(TensorUse::table(&self.prediction, count.saturating_mul(count), count));
        all.push(TensorUse::table(&self.correction, count, count));
        all.extend(self.output_scale.as_ref().map(|scale| TensorUse::vector(scale, hidden_size)));
    }
}

impl LaurelSpec {
    pub(super) fn collect<'a>(&'a self, hidden_size: usize, all: &mut Vec<TensorUse<'a>>) {
        self.left.collect(all);
        self.right.collect(all);
        self.norm.collect(hidden_size, all);
    }
}
