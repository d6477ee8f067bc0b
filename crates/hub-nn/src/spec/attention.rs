use super::{LinearSpec, NormSpec, RopeSpec, TensorRef, TensorUse};

/// Attention: each row reads a mean of the values of the rows it may see, weighed by how its query meets their keys.
///
/// Query heads share key and value heads in groups of `heads / kv_heads`, head `h` reading key head
/// `h / (heads / kv_heads)`. Source: Ainslie et al. 2023, <https://arxiv.org/abs/2305.13245>.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// `[heads * head_dim, hidden_size]`.
    pub query: LinearSpec,
    /// Where keys and values come from.
    pub kv: KvSpec,
    /// `[hidden_size, heads * head_dim]`.
    pub output: LinearSpec,
    /// Normalises each query head before its rotation (Qwen3, Gemma 3).
    pub query_norm: Option<NormSpec>,
    /// What these normalise at once.
    pub norm_scope: NormScope,
    /// Rotation of queries and keys by position.
    pub rope: Option<RopeSpec>,
    /// Multiplier of the scores, most often one over the root of `head_dim`.
    pub scale: f32,
    /// What else queries are multiplied with, by their position (Ministral 3).
    pub temperature: Option<QueryTemperature>,
    /// How many rows a row sees, itself included; all if `None`. Where rows see both ways: as many to each side, so that a
    /// row sees those whose distance is smaller.
    pub window: Option<usize>,
    /// Scores are squeezed to this range by `cap * tanh(x / cap)` (Gemma 2).
    pub soft_cap: Option<f32>,
    /// `[heads]`: a score beside those of the keys, whose value is nothing (gpt-oss). Source: Xiao et al. 2023,
    /// <https://arxiv.org/abs/2309.17453>, as `transformers` has it for gpt-oss.
    pub sinks: Option<TensorRef>,
    /// `[heads * head_dim, hidden_size]`: the sigmoid of its product says how much counts of what heads read
    /// (Qwen3-Next).
    pub gate: Option<LinearSpec>,
}

/// Where keys and values come from.
#[derive(Clone, Debug, PartialEq)]
pub enum KvSpec {
    /// The layer makes its own.
    Own(Box<OwnKv>),
    /// It reads those of the layer with this number, which comes before it and makes its own (Gemma 3n and 4).
    Of(usize),
}

/// What keys and values are made with.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnKv {
    /// `[kv_heads * head_dim, hidden_size]`.
    pub key: LinearSpec,
    /// `[kv_heads * head_dim, hidden_size]`; the same as `key` where values are the keys before norm and rotation.
    pub value: LinearSpec,
    /// Normalises each key head before its rotation.
    pub key_norm: Option<NormSpec>,
    /// Divides each value head by the root of its mean square, to which this is added first (Gemma 3n and 4).
    pub value_norm_eps: Option<f32>,
}

/// How much larger queries become with their position: by `1 + beta * ln(1 + floor(position / every))`.
///
/// Source: Llama 4's attention temperature as `transformers` has it for Ministral 3 (`get_llama_4_attn_scale`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueryTemperature {
    /// How fast they grow.
    pub beta: f32,
    /// After how many positions they do for the first time; at least 1.
    pub every: usize,
}

impl QueryTemperature {
    /// Returns what the query at a position is multiplied with.
    pub(crate) fn at(self, position: usize) -> f32 {
        1.0 + self.beta * ((1 + position / self.every.max(1)) as f32).ln()
    }
}

/// What a normalisation of queries or keys looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NormScope {
    /// Each head, with the same weights.
    #[default]
    Head,
    /// Each head, with weights of its own: `[heads, head_dim]`.
    EachHead,
    /// All heads of a row together.
    Row,
}

impl AttentionSpec {
    /// Returns what keys and values are made with, if the layer makes its own.
    pub fn own_kv(&self) -> Option<&OwnKv> {
        match &self.kv {
            KvSpec::Own(own) => Some(own),
            KvSpec::Of(_) => None,
        }
    }

    pub(super) fn collect<'a>(&'a self, all: &mut Vec<TensorUse<'a>>) {
        let own = self.own_kv();
        self.query.collect(all);
        own.into_iter().flat_map(|own| [&own.key, &own.value]).for_each(|linear| linear.collect(all));
        [&self.output].into_iter().chain(&self.gate).for_each(|linear| linear.collect(all));
        all.extend(self.sinks.as_ref().map(|sinks| TensorUse::vector(sinks, self.heads)));
        let key_norm = own.and_then(|own| own.key_norm.as_ref());
        for (norm, heads) in [(self.query_norm.as_ref(), self.heads), (key_norm, self.kv_heads)] {
            let heads = if self.norm_scope == NormScope::Head { 1 } else { heads };
            norm.into_iter().for_each(|norm| norm.collect(heads.saturating_mul(self.head_dim), all));
        }
        if let Some(rope) = &self.rope {
            all.extend(rope.tensors().into_iter().map(|tensor| TensorUse::vector(tensor, rope.dims / 2)));
        }
    }
}
