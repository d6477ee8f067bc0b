//! What decoders have in common: attention and a gated MLP, each on a residual, under a head over the vocabulary.

use hub_nn::spec::{
    Activation, AttentionSpec, EmbeddingSpec, Head, LayerSpec, LinearSpec, Mask, Mlp, ModelSpec, NormKind,
    NormSpec, RopeSpec, SublayerNorms, TensorRef,
};

use super::{
    FamilyError, Files, Keys,
    experts::Mixture,
    names::{Names, Part},
    rope,
};

/// The most layers that are laid out; far above any real model.
const MAX_LAYERS: usize = 1_024;

/// The sizes of a decoder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) hidden: usize,
    pub(super) inner: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) vocab: usize,
    pub(super) context: usize,
    pub(super) eps: f32,
}

/// A decoder: what the families differ in, with the plainest choice for each.
pub(super) struct Decoder {
    pub(super) names: Names,
    pub(super) sizes: Sizes,
    /// The window and the rotation of each layer.
    pub(super) layers: Vec<(Option<usize>, RopeSpec)>,
    pub(super) activation: Activation,
    /// What stands in place of the MLP in some layers.
    pub(super) experts: Option<Mixture>,
    /// Whether one tensor holds query, key and value, and one gate and up.
    pub(super) is_fused: bool,
    pub(super) biases: Biases,
    pub(super) has_head_norms: bool,
    pub(super) is_sandwich: bool,
    /// What is added to the weights of norms.
    pub(super) norm_offset: f32,
    /// Multiplier of attention scores; one over the root of the head's width if `None`.
    pub(super) score_scale: Option<f32>,
    pub(super) score_cap: Option<f32>,
    pub(super) embedding_scale: f32,
    pub(super) residual_scale: f32,
    pub(super) logit_scale: f32,
    pub(super) logit_cap: Option<f32>,
    pub(super) is_tied: bool,
}

/// Which matrices have something added.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Biases {
    pub(super) query_key_value: bool,
    pub(super) output: bool,
    pub(super) mlp: bool,
}

impl Biases {
    /// Returns which biases a GGUF file has; its metadata does not say.
    pub(super) fn in_gguf(files: &Files<'_>) -> Self {
        let has = |part| files.has(&Names::Gguf.layer(0, part, "bias"));
        Self { query_key_value: has(Part::Query), output: has(Part::Output), mlp: has(Part::Up) }
    }
}

impl Sizes {
    /// Reads the sizes as nearly every `config.json` names them.
    pub(super) fn from_config(keys: &Keys<'_>) -> Result<Self, FamilyError> {
        let (hidden, heads) = (keys.size("hidden_size")?, keys.size("num_attention_heads")?);
        let head_dim = keys.maybe_size("head_dim")?.unwrap_or(hidden / heads.max(1));
        Ok(Self {
            hidden,
            inner: keys.size("intermediate_size")?,
            layers: layers(keys, "num_hidden_layers")?,
            heads,
            kv_heads: keys.maybe_size("num_key_value_heads")?.unwrap_or(heads),
            head_dim,
            vocab: keys.size("vocab_size")?,
            context: keys.size("max_position_embeddings")?,
            eps: keys.number("rms_norm_eps")?,
        })
    }

    /// Reads the sizes as GGUF metadata names them.
    pub(super) fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<Self, FamilyError> {
        let (hidden, heads) = (keys.size("embedding_length")?, keys.size("attention.head_count")?);
        let head_dim = keys.maybe_size("attention.key_length")?.unwrap_or(hidden / heads.max(1));
        let value_dim = keys.maybe_size("attention.value_length")?.unwrap_or(head_dim);
        if value_dim != head_dim {
            return Err(keys.unsupported("attention.value_length", "the width of keys"));
        }
        let table = Names::Gguf.table();
        let vocab = files.rows(table).ok_or_else(|| keys.missing(table))?;
        keys.skip("vocab_size");
        // What the oldest converter was given.
        keys.skip("tensor_data_layout");
        Ok(Self {
            hidden,
            inner: keys.size("feed_forward_length")?,
            layers: layers(keys, "block_count")?,
            heads,
            kv_heads: keys.maybe_size("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            vocab,
            context: keys.size("context_length")?,
            eps: keys.number("attention.layer_norm_rms_epsilon")?,
        })
    }
}

/// Reads a number of layers, before anything is laid out for each.
pub(super) fn layers(keys: &Keys<'_>, key: &str) -> Result<usize, FamilyError> {
    match keys.size(key)? {
        layers @ 1..=MAX_LAYERS => Ok(layers),
        _ => Err(keys.bad(key, "1 to 1024")),
    }
}

/// Reads the name of an activation.
pub(super) fn activation(keys: &Keys<'_>, key: &str) -> Result<Activation, FamilyError> {
    match keys.text(key)? {
        Some("silu" | "swish") => Ok(Activation::Silu),
        Some("gelu") => Ok(Activation::Gelu),
        Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_tanh") => Ok(Activation::GeluTanh),
        Some("relu") => Ok(Activation::Relu),
        Some(_) => Err(keys.unsupported(key, "silu, gelu, gelu_pytorch_tanh or relu")),
        None => Err(keys.missing(key)),
    }
}

/// Reads which layers see only a window, from `layer_types`; `None` if the file has no such list.
pub(super) fn windowed_layers(keys: &Keys<'_>, layers: usize) -> Result<Option<Vec<bool>>, FamilyError> {
    let Some(types) = keys.texts("layer_types")? else { return Ok(None) };
    let is_windowed = |kind: &&str| match *kind {
        "full_attention" => Ok(false),
        "sliding_attention" => Ok(true),
        _ => Err(keys.unsupported("layer_types", "full_attention and sliding_attention")),
    };
    if types.len() != layers {
        return Err(keys.bad("layer_types", "one entry a layer"));
    }
    types.iter().map(is_windowed).collect::<Result<_, _>>().map(Some)
}

impl Decoder {
    /// A decoder in which every layer is like the others, and none of the choices is made.
    pub(super) fn new(names: Names, sizes: Sizes, window: Option<usize>, rope: RopeSpec) -> Self {
        Self {
            names,
            sizes,
            layers: vec![(window, rope); sizes.layers],
            activation: Activation::Silu,
            experts: None,
            is_fused: false,
            biases: Biases::default(),
            has_head_norms: false,
            is_sandwich: false,
            norm_offset: 0.0,
            score_scale: None,
            score_cap: None,
            embedding_scale: 1.0,
            residual_scale: 1.0,
            logit_scale: 1.0,
            logit_cap: None,
            is_tied: false,
        }
    }

    /// Lays out every layer.
    pub(super) fn spec(self, family: &'static str, files: &Files<'_>) -> ModelSpec {
        let Sizes { hidden, vocab, context, .. } = self.sizes;
        let contexts = self.layers.iter().map(|(_, rope)| rope::stretched(context, rope));
        let table = TensorRef::new(self.names.table());
        let head = if self.is_tied { table.clone() } else { TensorRef::new(self.names.head()) };
        let mut left_out =
            files.left_out("computed from the configuration", |name| name.ends_with("rotary_emb.inv_freq"));
        if self.is_tied {
            left_out.extend(files.left_out("the same as the embedding", |name| name == self.names.head()));
        }
        ModelSpec {
            family,
            hidden_size: hidden,
            vocab_size: vocab,
            context_tokens: contexts.max().unwrap_or(context),
            mask: Mask::Causal,
            embedding: EmbeddingSpec {
                table,
                scale: self.embedding_scale,
                positions: None,
                token_types: None,
                norm: None,
            },
            layers: (0..self.sizes.layers).map(|layer| self.layer(layer)).collect(),
            final_norm: Some(self.norm(self.names.final_norm().to_owned())),
            head: Head::Logits {
                linear: LinearSpec { weight: head, bias: None, inputs: hidden, outputs: vocab },
                scale: self.logit_scale,
                soft_cap: self.logit_cap,
            },
            left_out,
        }
    }

    fn layer(&self, layer: usize) -> LayerSpec {
        let norms = |before, after| SublayerNorms {
            before: Some(self.layer_norm(layer, before)),
            after: self.is_sandwich.then(|| self.layer_norm(layer, after)),
            last: None,
        };
        LayerSpec {
            mixer: self.attention(layer),
            mixer_norms: norms(Part::MixerNorm, Part::MixerAfterNorm),
            mlp: self.mlp(layer),
            mlp_norms: norms(Part::MlpNorm, Part::MlpAfterNorm),
            residual_scale: self.residual_scale,
        }
    }

    fn attention(&self, layer: usize) -> AttentionSpec {
        let Sizes { hidden, heads, kv_heads, head_dim, .. } = self.sizes;
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        let biased = self.biases.query_key_value;
        let projection = |part, start, rows| match self.is_fused {
            true => self.rows(layer, Part::QueryKeyValue, start, hidden, rows),
            false => self.linear(layer, part, hidden, rows, biased),
        };
        let head_norm = |part| self.has_head_norms.then(|| self.layer_norm(layer, part));
        let (window, rope) = self.layers[layer].clone();
        AttentionSpec {
            heads,
            kv_heads,
            head_dim,
            query: projection(Part::Query, 0, queries),
            key: projection(Part::Key, queries, keys),
            value: projection(Part::Value, queries + keys, keys),
            output: self.linear(layer, Part::Output, queries, hidden, self.biases.output),
            query_norm: head_norm(Part::QueryNorm),
            key_norm: head_norm(Part::KeyNorm),
            rope: Some(rope),
            scale: self.score_scale.unwrap_or(1.0 / (head_dim as f32).sqrt()),
            window,
            soft_cap: self.score_cap,
        }
    }

    fn mlp(&self, layer: usize) -> Mlp {
        let Sizes { hidden, inner, .. } = self.sizes;
        let mixture = self.experts.as_ref().and_then(|experts| experts.mlp(layer, hidden, self.activation));
        if let Some(mixture) = mixture {
            return mixture;
        }
        let projection = |part, start| match self.is_fused {
            true => self.rows(layer, Part::GateUp, start, hidden, inner),
            false => self.linear(layer, part, hidden, inner, self.biases.mlp),
        };
        Mlp::Gated {
            gate: projection(Part::Gate, 0),
            up: projection(Part::Up, inner),
            down: self.linear(layer, Part::Down, inner, hidden, self.biases.mlp),
            activation: self.activation,
        }
    }

    fn linear(&self, layer: usize, part: Part, inputs: usize, outputs: usize, is_biased: bool) -> LinearSpec {
        let weight = TensorRef::new(self.names.layer(layer, part, "weight"));
        let bias = is_biased.then(|| TensorRef::new(self.names.layer(layer, part, "bias")));
        LinearSpec { weight, bias, inputs, outputs }
    }

    fn rows(&self, layer: usize, part: Part, start: usize, inputs: usize, outputs: usize) -> LinearSpec {
        let weight = TensorRef::rows(self.names.layer(layer, part, "weight"), start..start + outputs);
        LinearSpec { weight, bias: None, inputs, outputs }
    }

    fn layer_norm(&self, layer: usize, part: Part) -> NormSpec {
        self.norm(self.names.layer(layer, part, "weight"))
    }

    fn norm(&self, weight: String) -> NormSpec {
        NormSpec {
            kind: NormKind::Rms,
            eps: self.sizes.eps,
            weight: TensorRef::new(weight),
            bias: None,
            weight_offset: self.norm_offset,
        }
    }
}
