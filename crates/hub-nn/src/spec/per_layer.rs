use super::{Activation, LinearSpec, NormSpec, TensorRef, TensorUse};

/// A second embedding, of which every layer has a part of its own (Gemma 3n and 4).
///
/// A token's part in a layer is `(norm(projection(x) * projection_scale) + table[token] * table_scale) * scale`, `x` being
/// what enters the first layer. Source: `transformers`' `Gemma4TextModel`.
#[derive(Clone, Debug, PartialEq)]
pub struct PerLayerEmbedding {
    /// Width of a layer's part.
    pub width: usize,
    /// How many tokens the table knows.
    pub vocab_size: usize,
    /// The token that those after it count as (Gemma 3n); they are refused if `None`.
    pub other_token: Option<u32>,
    /// `[vocab_size, layers * width]`.
    pub table: TensorRef,
    /// Multiplier of its rows.
    pub table_scale: f32,
    /// `[layers * width, hidden_size]`.
    pub projection: LinearSpec,
    /// Multiplier of the product.
    pub projection_scale: f32,
    /// Normalises the product, a layer's part at a time.
    pub norm: NormSpec,
    /// Multiplier of the sum.
    pub scale: f32,
}

/// What a layer does with its part, after its MLP: `x + norm(projection(activation(gate(x)) * part))`.
#[derive(Clone, Debug, PartialEq)]
pub struct PerLayerSpec {
    /// `[width, hidden_size]`.
    pub gate: LinearSpec,
    /// Applied to the gate.
    pub activation: Activation,
    /// `[hidden_size, width]`.
    pub projection: LinearSpec,
    /// Normalises what is added.
    pub norm: NormSpec,
}

impl PerLayerEmbedding {
    pub(super) fn collect<'a>(&'a self, layers: usize, all: &mut Vec<TensorUse<'a>>) {
        all.push(TensorUse::matrix(&self.table, self.vocab_size, layers.saturating_mul(self.width)));
        self.projection.collect(all);
        self.norm.collect(self.width, all);
    }
}

impl PerLayerSpec {
    pub(super) fn collect<'a>(&'a self, hidden_size: usize, all: &mut Vec<TensorUse<'a>>) {
        self.gate.collect(all);
        self.projection.collect(all);
        self.norm.collect(hidden_size, all);
    }
}
