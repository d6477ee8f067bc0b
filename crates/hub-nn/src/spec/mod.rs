//! A model as data: what its layers are, and where in its files each tensor lies.
//!
//! A family (in the crate above) turns a configuration into a [`ModelSpec`] and touches no tensor; an executor turns a
//! `ModelSpec` into arithmetic and knows no family. Whatever two families do differently is a field here.

mod altup;
mod attention;
mod check;
mod error;
mod experts;
mod latent;
mod linear;
mod mixer;
mod mlp;
mod norm;
mod per_layer;
mod pooled;
mod position;
mod recurrent;
mod rename;
mod rows;

pub use altup::{AltUpSpec, LaurelSpec, StreamsSpec};
pub use attention::{AttentionSpec, KvSpec, NormScope, OwnKv, QueryTemperature};
pub use error::SpecError;
pub use experts::{ApartSpec, ExpertSpec, ExpertsSpec, GroupsSpec, RoutingSpec, Scoring, SharedSpec};
pub use latent::{KeyForm, LatentSpec};
pub use linear::{LinearSpec, TensorUse};
pub use mixer::Mixer;
pub use mlp::{Activation, Mlp};
pub use norm::{NormKind, NormSpec, SublayerNorms};
pub use per_layer::{PerLayerEmbedding, PerLayerSpec};
pub use pooled::{PooledLayer, PooledSpec, RowPooling};
pub use position::{
    Factors, LearnedPositions, Llama3Scaling, LongRope, Pairing, RopeScaling, RopeSpec, YarnScaling,
};
pub use recurrent::{
    ConvSpec, ConvolvedSpec, Gating, KeyOrder, RateForm, RecurrentSpec, Rule, ShortConvSpec,
};
pub use rows::{Axis, Rows, TensorRef};

/// A stack of layers between an embedding and a head.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// The family that made this specification, as in listings: `"llama"`.
    pub family: &'static str,
    /// Width of the hidden state.
    pub hidden_size: usize,
    /// Number of tokens the embedding knows.
    pub vocab_size: usize,
    /// The longest sequence the model was made for, in tokens.
    pub context_tokens: usize,
    /// Which rows of a sequence a row may look at.
    pub mask: Mask,
    /// How tokens become hidden states.
    pub embedding: EmbeddingSpec,
    /// Residual streams beside the first, if there are any; then every layer has its [`altup`](LayerSpec::altup).
    pub streams: Option<StreamsSpec>,
    /// The layers, first to last.
    pub layers: Vec<LayerSpec>,
    /// Normalisation after the last layer.
    pub final_norm: Option<NormSpec>,
    /// What is computed from the last hidden state.
    pub head: Head,
    /// Tensors of the files that are not used, each with the reason.
    pub left_out: Vec<LeftOut>,
}

/// Which rows of a sequence a row may look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Itself and what came before: decoders. Such a model keeps state between steps.
    Causal,
    /// The whole sequence: encoders. Such a model keeps no state.
    Bidirectional,
}

/// How tokens become hidden states.
///
/// `norm(table[token] * scale + positions[position] + token_types[type])`.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingSpec {
    /// `[vocab_size, hidden_size]`.
    pub table: TensorRef,
    /// Multiplier of the token's row (Gemma: the square root of the width; Granite: a setting).
    pub scale: f32,
    /// Learned positions, if the model has them.
    pub positions: Option<LearnedPositions>,
    /// `[types, hidden_size]`: BERT's token types, if the model has them.
    pub token_types: Option<TensorRef>,
    /// Normalisation of the sum.
    pub norm: Option<NormSpec>,
    /// A second embedding, by layer.
    pub per_layer: Option<PerLayerEmbedding>,
}

/// One layer: a token mixer and an MLP, each on a residual.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSpec {
    /// What lets a row see other rows.
    pub mixer: Mixer,
    /// Normalisations around the mixer.
    pub mixer_norms: SublayerNorms,
    /// What works on each row alone.
    pub mlp: Mlp,
    /// Normalisations around the MLP.
    pub mlp_norms: SublayerNorms,
    /// Multiplier of what each sublayer adds to the residual (Granite; 1 elsewhere).
    pub residual_scale: f32,
    /// Whether the MLP reads what the mixer reads, so that both are added at once; `mlp_norms.before` is not used then.
    pub is_parallel: bool,
    /// A low-rank path beside the mixer.
    pub laurel: Option<LaurelSpec>,
    /// How the layer goes about with several residual streams.
    pub altup: Option<AltUpSpec>,
    /// What is done with the layer's part of a second embedding, after the MLP.
    pub per_layer: Option<PerLayerSpec>,
    /// `[1]`: multiplies what leaves the layer (Gemma 4).
    pub output_scale: Option<TensorRef>,
}

/// What is computed from the last hidden state.
#[derive(Clone, Debug, PartialEq)]
pub enum Head {
    /// Nothing: the hidden states are the result.
    None,
    /// One number per token of the vocabulary: `cap(linear(x) * scale)`.
    Logits {
        /// `[vocab_size, hidden_size]`; names the embedding's table where the two are tied.
        linear: LinearSpec,
        /// Multiplier of the logits (Granite: one over its setting; 1 elsewhere).
        scale: f32,
        /// Logits are squeezed to this range by `cap * tanh(x / cap)` (Gemma 2).
        soft_cap: Option<f32>,
    },
    /// Scores of a whole sequence.
    Classifier(PooledSpec),
    /// A vector of a whole sequence.
    Vector(PooledSpec),
    /// Every row, and behind it what each of these makes of it.
    Beside(Vec<LinearSpec>),
}

/// A tensor of the files that no part of the specification uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name in the files.
    pub name: String,
    /// Why the model is whole without it.
    pub reason: &'static str,
}

impl ModelSpec {
    /// Returns every tensor the specification names, in the order of use; a tied tensor comes twice.
    pub fn tensors(&self) -> Vec<TensorUse<'_>> {
        let mut all = Vec::new();
        self.collect_embedding(&mut all);
        self.streams.iter().for_each(|streams| streams.collect(&mut all));
        for layer in &self.layers {
            layer.collect(self.hidden_size, &mut all);
        }
        if let Some(norm) = &self.final_norm {
            norm.collect(self.hidden_size, &mut all);
        }
        match &self.head {
            Head::None => {}
            Head::Logits { linear, .. } => linear.collect(&mut all),
            Head::Classifier(pooled) | Head::Vector(pooled) => pooled.collect(&mut all),
            Head::Beside(linears) => linears.iter().for_each(|linear| linear.collect(&mut all)),
        }
        all
    }

    /// Returns every tensor, or part of one, that the specification names, once each.
    pub(crate) fn distinct_tensors(&self) -> Vec<TensorUse<'_>> {
        let mut uses = self.tensors();
        let place = |used: &TensorUse<'_>| {
            let TensorRef { name, rows, .. } = used.tensor;
            (name.clone(), rows.map(|rows| (rows.start, rows.step)))
        };
        uses.sort_by_cached_key(place);
        uses.dedup_by(|a, b| a.tensor == b.tensor);
        uses
    }

    fn collect_embedding<'a>(&'a self, all: &mut Vec<TensorUse<'a>>) {
        let (embedding, width) = (&self.embedding, self.hidden_size);
        all.push(TensorUse::matrix(&embedding.table, self.vocab_size, width));
        let positions = embedding.positions.as_ref();
        all.extend(positions.map(|positions| TensorUse::table(&positions.table, positions.count, width)));
        // How many types there are is the files' own business.
        all.extend(embedding.token_types.as_ref().map(|types| TensorUse::table(types, None, width)));
        if let Some(norm) = &embedding.norm {
            norm.collect(width, all);
        }
        if let Some(per_layer) = &embedding.per_layer {
            per_layer.collect(self.layers.len(), all);
        }
    }

    /// Iterates over the mixtures of experts, layer by layer.
    pub fn mixtures(&self) -> impl Iterator<Item = &ExpertsSpec> {
        self.layers.iter().filter_map(|layer| match &layer.mlp {
            Mlp::Experts(experts) => Some(&**experts),
            _ => None,
        })
    }

    /// Tells whether the head reads the embedding's own table.
    pub fn is_tied(&self) -> bool {
        matches!(&self.head, Head::Logits { linear, .. } if linear.weight == self.embedding.table)
    }

    /// Returns the sequence length at which everything cached becomes stale, if there is one.
    ///
    /// LongRoPE turns all keys by other angles once a sequence is longer than the original context, so a sequence
    /// that crosses this length is computed again from its first token (as `transformers` does).
    pub fn restart_tokens(&self) -> Option<usize> {
        self.layers.iter().filter_map(|layer| layer.mixer.rope()?.restart_tokens()).min()
    }
}

impl Head {
    /// Returns what is computed of a whole sequence, if it is that.
    pub fn pooled(&self) -> Option<&PooledSpec> {
        match self {
            Self::Classifier(pooled) | Self::Vector(pooled) => Some(pooled),
            Self::None | Self::Logits { .. } | Self::Beside(_) => None,
        }
    }
}

impl LayerSpec {
    fn collect<'a>(&'a self, hidden_size: usize, all: &mut Vec<TensorUse<'a>>) {
        self.mixer_norms.collect(hidden_size, all);
        self.mixer.collect(all);
        self.laurel.iter().for_each(|laurel| laurel.collect(hidden_size, all));
        self.mlp_norms.collect(hidden_size, all);
        self.mlp.collect(hidden_size, all);
        self.altup.iter().for_each(|altup| altup.collect(hidden_size, all));
        self.per_layer.iter().for_each(|per_layer| per_layer.collect(hidden_size, all));
        all.extend(self.output_scale.as_ref().map(|scale| TensorUse::vector(scale, 1)));
    }
}
