//! What decoders have in common: attention and a gated MLP, each on a residual, under a head over the vocabulary.

use hub_nn::spec::{
    Activation, AttentionSpec, EmbeddingSpec, Head, KvSpec, LayerSpec, LinearSpec, Mask, Mixer, Mlp,
    ModelSpec, NormKind, NormScope, NormSpec, OwnKv, QueryTemperature, RopeSpec, Rows, SublayerNorms,
    TensorRef,
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
    pub(super) layers: Vec<(Option<usize>, Option<RopeSpec>)>,
    pub(super) activation: Activation,
    /// Whether the MLP has a gate.
    pub(super) is_gated: bool,
    /// What stands in place of attention, layer by layer; attention in all if there are none.
    pub(super) mixers: Vec<Option<Mixer>>,
    /// What stands in place of the MLP in some layers.
    pub(super) experts: Option<Mixture>,
    /// Whether attention has a score beside those of the keys.
    pub(super) has_sinks: bool,
    /// Whether each query head is followed by a gate of what it reads.
    pub(super) is_attention_gated: bool,
    pub(super) fused: Fused,
    pub(super) biases: Biases,
    /// What norms of queries and keys look at, if there are any.
    pub(super) head_norms: Option<NormScope>,
    pub(super) norms: Norms,
    pub(super) norm_kind: NormKind,
    /// Whether the MLP reads what attention reads.
    pub(super) is_parallel: bool,
    /// What is added to the weights of norms.
    pub(super) norm_offset: f32,
    /// Multiplier of attention scores; one over the root of the head's width if `None`.
    pub(super) score_scale: Option<f32>,
    pub(super) score_cap: Option<f32>,
    pub(super) temperature: Option<QueryTemperature>,
    pub(super) embedding_scale: f32,
    pub(super) residual_scale: f32,
    pub(super) logit_scale: f32,
    pub(super) logit_cap: Option<f32>,
    pub(super) is_tied: bool,
}

/// Which matrices lie in one tensor.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fused {
    pub(super) query_key_value: bool,
    pub(super) gate_up: bool,
}

/// Where the norms of a layer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Norms {
    /// Of what each sublayer reads.
    Before,
    /// Of what each sublayer returns.
    After,
    /// Of both.
    Around,
}

/// What has something added.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Biases {
    pub(super) norms: bool,
    pub(super) query_key_value: bool,
    pub(super) output: bool,
    pub(super) mlp: bool,
}

impl Biases {
    /// Those of the four matrices of attention, or none.
    pub(super) fn of_attention(has: bool) -> Self {
        Self { query_key_value: has, output: has, ..Self::default() }
    }

    /// Returns which biases a GGUF file has; its metadata does not say.
    pub(super) fn in_gguf(files: &Files<'_>) -> Self {
        let has = |part| files.has(&Names::GGUF.layer(0, part, "bias"));
        Self {
            norms: has(Part::MixerNorm),
            query_key_value: has(Part::Query),
            output: has(Part::Output),
            mlp: has(Part::Up),
        }
    }
}

impl Sizes {
    /// Reads the sizes as nearly every `config.json` names them.
    pub(super) fn from_config(keys: &Keys<'_>) -> Result<Self, FamilyError> {
        Self::from_config_with(keys, "rms_norm_eps")
    }

    /// The same, where the norms' epsilon goes under the name `eps`.
    pub(super) fn from_config_with(keys: &Keys<'_>, eps: &str) -> Result<Self, FamilyError> {
        Self::from_config_of(keys, eps, "intermediate_size")
    }

    /// The same, where the width of the MLP goes under the name `inner` as well.
    pub(super) fn from_config_of(keys: &Keys<'_>, eps: &str, inner: &str) -> Result<Self, FamilyError> {
        Self::from_config_around(keys, eps, keys.size(inner)?)
    }

    /// The same, around MLPs of a width that was read already.
    pub(super) fn from_config_around(keys: &Keys<'_>, eps: &str, inner: usize) -> Result<Self, FamilyError> {
        let (hidden, heads) = (keys.size("hidden_size")?, keys.size("num_attention_heads")?);
        let head_dim = keys.maybe_size("head_dim")?.unwrap_or(hidden / heads.max(1));
        Ok(Self {
            hidden,
            inner,
            layers: layers(keys, "num_hidden_layers")?,
            heads,
            kv_heads: keys.maybe_size("num_key_value_heads")?.unwrap_or(heads),
            head_dim,
            vocab: keys.size("vocab_size")?,
            context: keys.size("max_position_embeddings")?,
            eps: keys.number(eps)?,
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
        let table = Names::GGUF.table();
        let vocab = files.rows(table).ok_or_else(|| keys.missing(table))?;
        keys.skip("vocab_size");
        let layers = layers(keys, "block_count")?;
        // Layers without attention have none.
        let kv_heads = keys.layered("attention.head_count_kv", layers)?;
        let kv_heads = kv_heads.and_then(|heads| heads.into_iter().max()).unwrap_or(heads);
        // Where all layers have experts there may be no other width.
        let inner = match keys.layered("feed_forward_length", layers)? {
            Some(inner) => inner.into_iter().max(),
            None => keys.maybe_size("expert_feed_forward_length")?,
        };
        let inner = inner.ok_or_else(|| keys.missing("feed_forward_length"))?;
        // What the oldest converter was given.
        keys.skip("tensor_data_layout");
        Ok(Self {
            hidden,
            inner,
            layers,
            heads,
            kv_heads,
            head_dim,
            vocab,
            context: keys.size("context_length")?,
            // Of norms by the mean square, or by mean and deviation.
            eps: match keys.maybe_number("attention.layer_norm_rms_epsilon")? {
                Some(eps) => eps,
                None => keys.number("attention.layer_norm_epsilon")?,
            },
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

/// Returns how far a row sees to each side, itself included, where it sees both: half of what files call the window, as
/// `transformers` has it.
pub(super) fn to_each_side(window: usize) -> usize {
    window / 2 + 1
}

/// Returns which layers see only a window where every `pattern`-th sees all; with a pattern of 0 none does.
pub(super) fn windowed_but_every(pattern: usize, layers: usize) -> Vec<bool> {
    (1..=layers).map(|layer| pattern == 0 || !layer.is_multiple_of(pattern)).collect()
}

/// Reads which layers of a GGUF file see only a window: a truth value a layer, or one layer in so many that sees all.
pub(super) fn gguf_windowed_layers(
    keys: &Keys<'_>,
    layers: usize,
    pattern: usize,
) -> Result<Vec<bool>, FamilyError> {
    let key = "attention.sliding_window_pattern";
    match keys.layered_flags(key, layers)? {
        Some(flags) => Ok(flags),
        None => Ok(windowed_but_every(keys.maybe_size(key)?.unwrap_or(pattern), layers)),
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
        return Err(keys.bad("layer_types", "one entry for each of `num_hidden_layers`"));
    }
    types.iter().map(is_windowed).collect::<Result<_, _>>().map(Some)
}

impl Decoder {
    /// A decoder in which every layer is like the others, and none of the choices is made.
    pub(super) fn new(names: Names, sizes: Sizes, window: Option<usize>, rope: RopeSpec) -> Self {
        Self {
            names,
            sizes,
            layers: vec![(window, Some(rope)); sizes.layers],
            activation: Activation::Silu,
            is_gated: true,
            mixers: Vec::new(),
            experts: None,
            has_sinks: false,
            is_attention_gated: false,
            fused: Fused::default(),
            biases: Biases::default(),
            head_norms: None,
            norms: Norms::Before,
            norm_kind: NormKind::Rms,
            is_parallel: false,
            norm_offset: 0.0,
            score_scale: None,
            score_cap: None,
            temperature: None,
            embedding_scale: 1.0,
            residual_scale: 1.0,
            logit_scale: 1.0,
            logit_cap: None,
            is_tied: false,
        }
    }

    /// Rotates queries and keys in some layers only.
    pub(super) fn rotate_if(&mut self, is_rotated: impl Fn(usize) -> bool) {
        for (layer, (_, rope)) in self.layers.iter_mut().enumerate() {
            *rope = rope.take().filter(|_| is_rotated(layer));
        }
    }

    /// Rotates some layers by a rotation of their own.
    pub(super) fn rotate_windowed(&mut self, local: &RopeSpec, is_windowed: &[bool]) {
        let layers = self.layers.iter_mut().zip(is_windowed).filter(|(_, is_windowed)| **is_windowed);
        layers.for_each(|((_, rope), _)| *rope = Some(local.clone()));
    }

    /// Gives some layers the window, and the others none.
    pub(super) fn window_if(&mut self, window: Option<usize>, is_windowed: &[bool]) {
        for ((own, _), is_windowed) in self.layers.iter_mut().zip(is_windowed) {
            *own = window.filter(|_| *is_windowed);
        }
    }

    /// Lays out every layer.
    pub(super) fn spec(self, family: &'static str, files: &Files<'_>) -> ModelSpec {
        let Sizes { hidden, vocab, context, .. } = self.sizes;
        let ropes = self.layers.iter().filter_map(|(_, rope)| rope.as_ref());
        let contexts = ropes.map(|rope| rope::stretched(context, rope));
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
                per_layer: None,
            },
            streams: None,
            layers: (0..self.sizes.layers).map(|layer| self.layer(layer)).collect(),
            final_norm: Some(self.norm(|kind| self.names.final_norm(kind))),
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
            before: (self.norms != Norms::After).then(|| self.layer_norm(layer, before)),
            after: (self.norms != Norms::Before).then(|| self.layer_norm(layer, after)),
            last: None,
        };
        let mlp_norms = match self.is_parallel {
            true => SublayerNorms::default(),
            false => norms(Part::MlpNorm, Part::MlpAfterNorm),
        };
        LayerSpec {
            mixer: self.mixer(layer),
            mixer_norms: norms(Part::MixerNorm, Part::MixerAfterNorm),
            mlp: self.mlp(layer),
            mlp_norms,
            residual_scale: self.residual_scale,
            is_parallel: self.is_parallel,
            laurel: None,
            altup: None,
            per_layer: None,
            output_scale: None,
        }
    }

    fn mixer(&self, layer: usize) -> Mixer {
        match self.mixers.get(layer) {
            Some(Some(mixer)) => mixer.clone(),
            _ => self.attention(layer).into(),
        }
    }

    fn attention(&self, layer: usize) -> AttentionSpec {
        let Sizes { hidden, heads, kv_heads, head_dim, .. } = self.sizes;
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        let biased = self.biases.query_key_value;
        let projection = |part, start, rows| match self.fused.query_key_value {
            true => self.rows(layer, Part::QueryKeyValue, start, hidden, rows),
            false => self.linear(layer, part, hidden, rows, biased),
        };
        // A head of queries, and its gate.
        let gated = |start| {
            let rows = Rows { start: start * head_dim, len: head_dim, step: 2 * head_dim, count: heads };
            let part = |kind| self.names.layer(layer, Part::Query, kind);
            LinearSpec {
                weight: TensorRef::rows(part("weight"), rows),
                bias: biased.then(|| TensorRef::rows(part("bias"), rows)),
                inputs: hidden,
                outputs: queries,
            }
        };
        let query = match self.is_attention_gated {
            true => gated(0),
            false => projection(Part::Query, 0, queries),
        };
        let head_norm = |part, heads: usize| {
            let scope = self.head_norms?;
            let mut norm = NormSpec { bias: None, ..self.layer_norm(layer, part) };
            if scope == NormScope::EachHead {
                // A row for each head.
                norm.weight = TensorRef::numbers(norm.weight.name, 0..heads.saturating_mul(head_dim));
            }
            Some(norm)
        };
        let (window, rope) = self.layers[layer].clone();
        AttentionSpec {
            heads,
            kv_heads,
            head_dim,
            query,
            kv: KvSpec::Own(Box::new(OwnKv {
                key: projection(Part::Key, queries, keys),
                value: projection(Part::Value, queries + keys, keys),
                key_norm: head_norm(Part::KeyNorm, kv_heads),
                value_norm_eps: None,
            })),
            output: self.linear(layer, Part::Output, queries, hidden, self.biases.output),
            query_norm: head_norm(Part::QueryNorm, heads),
            norm_scope: self.head_norms.unwrap_or_default(),
            rope,
            scale: self.score_scale.unwrap_or(1.0 / (head_dim as f32).sqrt()),
            temperature: self.temperature,
            window,
            soft_cap: self.score_cap,
            sinks: self.has_sinks.then(|| TensorRef::new(self.names.sinks(layer))),
            gate: self.is_attention_gated.then(|| gated(1)),
        }
    }

    fn mlp(&self, layer: usize) -> Mlp {
        let Sizes { hidden, inner, .. } = self.sizes;
        let mixture = self.experts.as_ref().and_then(|experts| experts.mlp(layer, hidden, self.activation));
        if let Some(mixture) = mixture {
            return mixture;
        }
        let projection = |part, start| match self.fused.gate_up {
            true => self.rows(layer, Part::GateUp, start, hidden, inner),
            false => self.linear(layer, part, hidden, inner, self.biases.mlp),
        };
        if !self.is_gated {
            return Mlp::Plain {
                up: self.linear(layer, Part::PlainUp, hidden, inner, self.biases.mlp),
                down: self.linear(layer, Part::PlainDown, inner, hidden, self.biases.mlp),
                activation: self.activation,
            };
        }
        Mlp::Gated {
            gate: projection(Part::Gate, 0),
            up: projection(Part::Up, inner),
            down: self.linear(layer, Part::Down, inner, hidden, self.biases.mlp),
            activation: self.activation,
            sparsity: None,
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
        self.norm(|kind| self.names.layer(layer, part, kind))
    }

    fn norm(&self, name: impl Fn(&str) -> String) -> NormSpec {
        NormSpec {
            kind: self.norm_kind,
            eps: self.sizes.eps,
            weight: TensorRef::new(name("weight")),
            bias: self.biases.norms.then(|| TensorRef::new(name("bias"))),
            weight_offset: self.norm_offset,
        }
    }
}
