//! Gemma 4: windowed layers with narrow heads and full ones with wide heads, whose values may be their keys; a second
//! embedding by layer, and layers that read the keys and values of others, in the small models; experts beside the MLP in
//! one; the text half of models that see and hear.

use hub_nn::spec::{
    Activation, ApartSpec, AttentionSpec, KvSpec, Mixer, Mlp, ModelSpec, NormScope, Pairing, RopeSpec,
    TensorRef,
};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Decoder, Sizes, activation, gguf_windowed_layers, windowed_but_every, windowed_layers},
    experts::{self, ExpertNames, Mixture},
    gemma2::{SANDWICH, sandwich},
    keys::DefaultValue,
    names::Names,
    per_layer::{Small, share, shared_layers},
    rope::{self, RopeShape},
    written::{self, Written},
};

/// One layer in so many sees everything, where the files do not say.
const PATTERN: usize = 6;

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "gemma4",
    architectures: &["Gemma4ForCausalLM"],
    model_types: &["gemma4_text"],
    defaults: &[
        ("head_dim", DefaultValue::Whole(256)),
        ("hidden_activation", DefaultValue::Text("gelu_pytorch_tanh")),
        ("hidden_size_per_layer_input", DefaultValue::Whole(256)),
        ("max_position_embeddings", DefaultValue::Whole(131_072)),
        ("num_key_value_heads", DefaultValue::Whole(4)),
        ("num_kv_shared_layers", DefaultValue::Whole(0)),
        ("rms_norm_eps", DefaultValue::Number(1e-6)),
        ("sliding_window", DefaultValue::Whole(512)),
        ("vocab_size_per_layer_input", DefaultValue::Whole(262_144)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "gemma4", read: Some(from_gguf), write: Some(write) }),
};

/// What the layers are like.
struct Layers {
    small: Small,
    is_windowed: Vec<bool>,
    /// So many layers at the end read the keys and values of others.
    shared: usize,
    /// Whether the values of full layers are their keys.
    is_value_key: bool,
    /// The inner width of each layer's MLP.
    inner: Vec<usize>,
    /// The width of a layer's part of the second embedding, and how many tokens that knows.
    part: Option<(usize, usize)>,
    experts: Option<Mixture>,
}

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    keys.only("attention_bias", "false")?;
    // Images see both ways, text does not.
    if keys.text("use_bidirectional_attention")?.is_some_and(|kind| kind != "vision") {
        return Err(keys.unsupported("use_bidirectional_attention", "vision"));
    }
    let windowed = windowed_layers(keys, sizes.layers)?;
    let is_windowed = windowed.unwrap_or_else(|| windowed_but_every(PATTERN, sizes.layers));
    let is_value_key = keys.flag("attention_k_eq_v", false)?;
    let wide = wide_sizes(keys, sizes, &is_windowed, is_value_key)?;
    let ropes = keys.below("rope_parameters")?;
    let one = |name: &str, sizes: &Sizes, base: f32, default: Option<f32>| {
        let shape = RopeShape { default_base: base, ..RopeShape::of(sizes) };
        match &ropes {
            Some(both) => {
                let own = both.below(name)?.ok_or_else(|| both.missing(name))?;
                rope::from_parameters(keys, &own, base, shape)
            }
            None => rope::proportional(keys, base, shape.head_dim, default.unwrap_or(1.0)),
        }
    };
    let global = one("full_attention", &wide, 1_000_000.0, Some(0.25))?;
    let local = one("sliding_attention", &sizes, 10_000.0, None)?;
    ropes.iter().try_for_each(Keys::finish)?;
    let shared = shared_layers(keys, "num_kv_shared_layers", sizes.layers)?;
    let is_double = keys.flag("use_double_wide_mlp", false)?;
    let inner =
        |layer| if is_double && layer + shared >= sizes.layers { 2 * sizes.inner } else { sizes.inner };
    let part = keys.maybe_size("hidden_size_per_layer_input")?.filter(|width| *width > 0);
    let layers = Layers {
        small: Small {
            is_gguf: false,
            hidden: sizes.hidden,
            layers: sizes.layers,
            eps: sizes.eps,
            activation: activation(keys, "hidden_activation")?,
        },
        shared,
        is_value_key,
        inner: (0..sizes.layers).map(inner).collect(),
        part: part.zip(keys.maybe_size("vocab_size_per_layer_input")?),
        experts: config_experts(keys, &sizes)?,
        is_windowed,
    };
    let window = keys.maybe_size("sliding_window")?;
    let decoder = |sizes, window, rope| -> Result<Decoder, FamilyError> {
        Ok(Decoder {
            logit_cap: keys.maybe_number("final_logit_softcapping")?,
            is_tied: keys.flag("tie_word_embeddings", true)?,
            ..Decoder::new(SANDWICH, sizes, window, rope)
        })
    };
    Ok(layers.spec(decoder(sizes, window, local)?, decoder(wide, None, global)?, files))
}

/// Reads the sizes of full layers: newer files have them by layer, others under names of their own.
fn wide_sizes(
    keys: &Keys<'_>,
    sizes: Sizes,
    is_windowed: &[bool],
    is_value_key: bool,
) -> Result<Sizes, FamilyError> {
    let head_dim = keys.maybe_size("global_head_dim")?.unwrap_or(512);
    let kv_heads = keys.maybe_size("num_global_key_value_heads")?.filter(|_| is_value_key);
    let mut wide = Sizes { head_dim, kv_heads: kv_heads.unwrap_or(sizes.kv_heads), ..sizes };
    let Some(by_layer) = keys.below("per_layer_config")? else { return Ok(wide) };
    for layer in (0..sizes.layers).filter(|layer| !is_windowed[*layer]) {
        let Some(own) = by_layer.below(&layer.to_string())? else { continue };
        wide.head_dim = own.maybe_size("head_dim")?.unwrap_or(wide.head_dim);
        wide.kv_heads = own.maybe_size("num_key_value_heads")?.unwrap_or(wide.kv_heads);
        own.finish()?;
    }
    by_layer.finish()?;
    Ok(wide)
}

fn config_experts(keys: &Keys<'_>, sizes: &Sizes) -> Result<Option<Mixture>, FamilyError> {
    let inner = keys.maybe_size("moe_intermediate_size")?;
    let chosen = keys.maybe_size("top_k_experts")?;
    if !keys.flag("enable_moe_block", false)? {
        keys.skip("num_experts");
        return Ok(None);
    }
    let count = experts::count(keys, "num_experts", sizes.layers)?;
    let chosen = chosen.ok_or_else(|| keys.missing("top_k_experts"))?;
    let inner = inner.ok_or_else(|| keys.missing("moe_intermediate_size"))?;
    Ok(Some(Mixture::new(ExpertNames::Gemma, sizes.layers, (count, chosen, inner))))
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let wide = Sizes::from_gguf(keys, files)?;
    let layers = wide.layers;
    let is_windowed = gguf_windowed_layers(keys, layers, PATTERN)?;
    let kv_heads = keys.layered("attention.head_count_kv", layers)?.unwrap_or_default();
    let kv_heads_of = |is_local: bool| {
        let of_kind = kv_heads.iter().zip(&is_windowed).find(|(_, is_windowed)| **is_windowed == is_local);
        of_kind.map_or(wide.kv_heads, |(heads, _)| *heads)
    };
    let head_dim = keys.maybe_size("attention.key_length_swa")?.unwrap_or(wide.head_dim);
    keys.skip("attention.value_length_swa");
    let narrow = Sizes { head_dim, kv_heads: kv_heads_of(true), ..wide };
    let wide = Sizes { kv_heads: kv_heads_of(false), ..wide };
    let shape = RopeShape { default_base: 1_000_000.0, ..RopeShape::of(&wide) };
    let global = rope::from_gguf(keys, files, Pairing::Halves, shape)?;
    let base = keys.maybe_number("rope.freq_base_swa")?.unwrap_or(10_000.0);
    let dims = keys.maybe_size("rope.dimension_count_swa")?.unwrap_or(head_dim);
    let local = RopeSpec { dims, ..rope::proportional(keys, base, head_dim, 1.0)? };
    let part = keys.maybe_size("embedding_length_per_layer_input")?.filter(|width| *width > 0);
    let first_full = is_windowed.iter().position(|is_windowed| !is_windowed).unwrap_or(0);
    let experts = Mixture::from_gguf(keys, &wide)?;
    let layers = Layers {
        small: Small {
            is_gguf: true,
            hidden: wide.hidden,
            layers,
            eps: wide.eps,
            activation: Activation::GeluTanh,
        },
        shared: shared_layers(keys, "attention.shared_kv_layers", layers)?,
        is_value_key: !files.has(&format!("blk.{first_full}.attn_v.weight")),
        inner: keys.layered("feed_forward_length", layers)?.unwrap_or_default(),
        part: part.zip(files.rows("per_layer_token_embd.weight")),
        experts: experts.map(|experts| Mixture { names: ExpertNames::GgufFused, ..experts }),
        is_windowed,
    };
    let window = keys.maybe_size("attention.sliding_window")?;
    let decoder = |sizes, window, rope| -> Result<Decoder, FamilyError> {
        Ok(Decoder {
            logit_cap: keys.maybe_number("final_logit_softcapping")?,
            is_tied: !files.has(Names::GGUF.head()),
            ..Decoder::new(Names::GGUF, sizes, window, rope)
        })
    };
    Ok(layers.spec(decoder(narrow, window, local)?, decoder(wide, None, global)?, files))
}

fn write(spec: &ModelSpec, out: &mut Written<'_>) {
    written::shared(spec, out);
    let mut attentions = spec.layers.iter().filter_map(|layer| layer.mixer.attention());
    if let Some(narrow) = attentions.find(|attention| attention.window.is_some()) {
        out.size("attention.key_length_swa", narrow.head_dim);
        out.size("attention.value_length_swa", narrow.head_dim);
        out.size("rope.dimension_count_swa", narrow.rope.as_ref().map_or(0, |rope| rope.dims));
    }
}

impl Layers {
    /// Lays out every layer, from a decoder whose layers are all windowed and one whose layers see all.
    fn spec(&self, local: Decoder, global: Decoder, files: &Files<'_>) -> ModelSpec {
        let finished = |decoder: Decoder| {
            let decoder = Decoder {
                head_norms: Some(NormScope::Head),
                score_scale: Some(1.0),
                activation: self.small.activation,
                ..sandwich(decoder)
            };
            decoder.spec("gemma4", files)
        };
        let (mut spec, global) = (finished(local), finished(global));
        for (layer, whole) in global.layers.into_iter().enumerate() {
            if !self.is_windowed[layer] {
                spec.layers[layer] = whole;
            }
            let own = &mut spec.layers[layer];
            if let Mixer::Attention(attention) = &mut own.mixer {
                self.finish_attention(layer, attention);
            }
            if let Mlp::Gated { gate, up, down, .. } = &mut own.mlp {
                let inner = self.inner.get(layer).copied().unwrap_or(down.inputs);
                (gate.outputs, up.outputs, down.inputs) = (inner, inner, inner);
            }
            self.put_experts(layer, &mut own.mlp);
            own.per_layer = self.part.map(|(width, _)| self.small.part(layer, width));
            let scale = self.small.name(layer, "layer_scalar", "layer_output_scale.weight");
            own.output_scale = files.has(&scale).then(|| TensorRef::new(scale));
        }
        spec.embedding.per_layer = self.part.map(|(width, vocab)| self.small.second_embedding(width, vocab));
        share(&mut spec, self.shared, &self.is_windowed, files);
        spec
    }

    fn finish_attention(&self, layer: usize, attention: &mut AttentionSpec) {
        if let KvSpec::Own(own) = &mut attention.kv {
            own.value_norm_eps = Some(self.small.eps);
            if self.is_value_key && !self.is_windowed[layer] {
                own.value = own.key.clone();
            }
        }
    }

    /// Puts experts beside the MLP.
    fn put_experts(&self, layer: usize, mlp: &mut Mlp) {
        let mixture = self
            .experts
            .as_ref()
            .and_then(|mixture| mixture.mlp(layer, self.small.hidden, self.small.activation));
        let Some(Mlp::Experts(mut experts)) = mixture else { return };
        let norm = |hugging_face, gguf| self.small.norm(self.small.name(layer, hugging_face, gguf));
        experts.apart = Some(ApartSpec {
            router: norm("router.scale", "ffn_gate_inp.scale"),
            before: norm("pre_feedforward_layernorm_2.weight", "pre_ffw_norm_2.weight"),
            after: norm("post_feedforward_layernorm_2.weight", "post_ffw_norm_2.weight"),
            shared_after: norm("post_feedforward_layernorm_1.weight", "post_ffw_norm_1.weight"),
        });
        experts.routing.score_scale = 1.0 / (self.small.hidden as f32).sqrt();
        let scale = self.small.name(layer, "router.per_expert_scale", "ffn_down_exps.scale");
        experts.routing.expert_scale = Some(TensorRef::new(scale));
        let shared = std::mem::replace(mlp, Mlp::Experts(Box::new((*experts).clone())));
        if let Mlp::Experts(experts) = mlp {
            experts.shared = Some(hub_nn::spec::SharedSpec { mlp: Box::new(shared), gate: None });
        }
    }
}
