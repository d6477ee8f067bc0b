//! LFM2: short convolutions between two gates, and attention in some layers.

use hub_nn::spec::{ConvSpec, LinearSpec, Mixer, ModelSpec, NormScope, Pairing, ShortConvSpec, TensorRef};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Decoder, Sizes},
    keys::DefaultValue,
    names::{Names, Part},
    rope::{self, RopeShape},
    written::{self, Written},
};

const NAMES: Names = Names::HUGGING_FACE.with_final_norm("model.embedding_norm").with(&[
    (Part::MixerNorm, "operator_norm"),
    (Part::MlpNorm, "ffn_norm"),
    (Part::Output, "self_attn.out_proj"),
    (Part::QueryNorm, "self_attn.q_layernorm"),
    (Part::KeyNorm, "self_attn.k_layernorm"),
    (Part::Gate, "feed_forward.w1"),
    (Part::Up, "feed_forward.w3"),
    (Part::Down, "feed_forward.w2"),
]);
/// The last norm is named as if it came after the embedding.
const GGUF_NAMES: Names = Names::GGUF.with_final_norm("token_embd_norm");

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "lfm2",
    architectures: &["Lfm2ForCausalLM"],
    model_types: &["lfm2"],
    defaults: &[
        ("block_ffn_dim_multiplier", DefaultValue::Number(1.0)),
        ("block_multiple_of", DefaultValue::Whole(256)),
        ("conv_L_cache", DefaultValue::Whole(3)),
        ("max_position_embeddings", DefaultValue::Whole(128_000)),
        ("norm_eps", DefaultValue::Number(1e-5)),
        ("num_key_value_heads", DefaultValue::Whole(8)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "lfm2", read: Some(from_gguf), write: Some(write) }),
};

/// What files say twice, or of how the first weights were drawn.
const WITHOUT_EFFECT: &[&str] = &[
    "block_dim",
    "block_ff_dim",
    "block_mlp_init_scale",
    "block_norm_eps",
    "block_out_init_scale",
    "block_use_xavier_init",
    "conv_dim",
    "conv_dim_out",
    "conv_use_xavier_init",
    "num_heads",
];

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    WITHOUT_EFFECT.iter().for_each(|key| keys.skip(key));
    keys.only("block_use_swiglu", "true")?;
    keys.only("use_pos_enc", "true")?;
    // The first files have only the second name.
    let inner = if keys.has("intermediate_size") { "intermediate_size" } else { "block_ff_dim" };
    let sizes = Sizes { inner: inner_width(keys, inner)?, ..Sizes::from_config_of(keys, "norm_eps", inner)? };
    let rope = rope::from_config(keys, RopeShape { default_base: 1_000_000.0, ..RopeShape::of(&sizes) })?;
    let is_attention = attention_layers(keys, sizes.layers)?;
    let has_bias = keys.flag("conv_bias", false)?;
    let convs = convolutions(NAMES, &sizes, keys.size("conv_L_cache")?, has_bias, &is_attention);
    let is_tied = keys.flag("tie_word_embeddings", true)?;
    let decoder = Decoder {
        mixers: convs,
        head_norms: Some(NormScope::Head),
        is_tied: keys.flag("tie_embedding", is_tied)?,
        ..Decoder::new(NAMES, sizes, None, rope)
    };
    Ok(decoder.spec("lfm2", files))
}

/// Returns how wide the MLP is, which may be less than files say.
fn inner_width(keys: &Keys<'_>, key: &str) -> Result<usize, FamilyError> {
    let inner = keys.size(key)?;
    let (multiplier, multiple) = (keys.number("block_ffn_dim_multiplier")?, keys.size("block_multiple_of")?);
    if !keys.flag("block_auto_adjust_ff_dim", true)? {
        return Ok(inner);
    }
    // As transformers rounds it.
    let inner = (f64::from(multiplier) * (inner as f64 * 2.0 / 3.0).floor()) as usize;
    let expected = "a number that the width of an MLP may be a multiple of";
    inner.checked_next_multiple_of(multiple.max(1)).ok_or_else(|| keys.bad("block_multiple_of", expected))
}

/// Reads which layers have attention, from the list of their kinds or from that of their numbers.
fn attention_layers(keys: &Keys<'_>, layers: usize) -> Result<Vec<bool>, FamilyError> {
    let numbers = keys.has("full_attn_idxs").then(|| keys.sizes("full_attn_idxs")).transpose()?;
    let Some(types) = keys.texts("layer_types")? else {
        return Ok((0..layers)
            .map(|layer| numbers.as_ref().is_none_or(|numbers| numbers.contains(&layer)))
            .collect());
    };
    if types.len() != layers {
        return Err(keys.bad("layer_types", "one entry for each of `num_hidden_layers`"));
    }
    let read = |kind: &&str| match *kind {
        "full_attention" => Ok(true),
        "conv" => Ok(false),
        _ => Err(keys.unsupported("layer_types", "full_attention and conv")),
    };
    types.iter().map(read).collect()
}

fn write(spec: &ModelSpec, out: &mut Written<'_>) {
    written::plain(spec, out);
    let kernel = spec.layers.iter().find_map(|layer| match &layer.mixer {
        Mixer::ShortConv(conv) => Some(conv.conv.kernel),
        _ => None,
    });
    out.size("shortconv.l_cache", kernel.unwrap_or(0));
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let rope = rope::from_gguf(keys, files, Pairing::Halves, RopeShape::of(&sizes))?;
    let kv_heads = keys.layered("attention.head_count_kv", sizes.layers)?.unwrap_or_default();
    let is_attention: Vec<bool> = kv_heads.iter().map(|heads| *heads > 0).collect();
    let has_bias = is_attention.iter().position(|is_attention| !is_attention);
    let has_bias = has_bias.is_some_and(|layer| files.has(&format!("blk.{layer}.shortconv.conv.bias")));
    let kernel = keys.size("shortconv.l_cache")?;
    let decoder = Decoder {
        mixers: convolutions(GGUF_NAMES, &sizes, kernel, has_bias, &is_attention),
        head_norms: Some(NormScope::Head),
        is_tied: !files.has(Names::GGUF.head()),
        ..Decoder::new(GGUF_NAMES, sizes, None, rope)
    };
    Ok(decoder.spec("lfm2", files))
}

/// Lays out the convolutions, layer by layer.
fn convolutions(
    names: Names,
    sizes: &Sizes,
    kernel: usize,
    has_bias: bool,
    is_attention: &[bool],
) -> Vec<Option<Mixer>> {
    let hidden = sizes.hidden;
    let conv = |layer: usize| {
        let name = |part: &str, kind: &str| match names.is_gguf() {
            true => format!("blk.{layer}.shortconv.{part}.{kind}"),
            false => format!("model.layers.{layer}.conv.{part}.{kind}"),
        };
        // Three matrices lie in one tensor.
        let input = |part: usize| LinearSpec {
            weight: TensorRef::rows(name("in_proj", "weight"), part * hidden..(part + 1) * hidden),
            bias: has_bias
                .then(|| TensorRef::rows(name("in_proj", "bias"), part * hidden..(part + 1) * hidden)),
            inputs: hidden,
            outputs: hidden,
        };
        Mixer::ShortConv(Box::new(ShortConvSpec {
            before: input(0),
            after: input(1),
            value: input(2),
            conv: ConvSpec {
                weight: TensorRef::new(name("conv", "weight")),
                bias: has_bias.then(|| TensorRef::new(name("conv", "bias"))),
                channels: hidden,
                kernel,
            },
            output: LinearSpec {
                weight: TensorRef::new(name("out_proj", "weight")),
                bias: has_bias.then(|| TensorRef::new(name("out_proj", "bias"))),
                inputs: hidden,
                outputs: hidden,
            },
        }))
    };
    is_attention
        .iter()
        .enumerate()
        .map(|(layer, is_attention)| (!is_attention).then(|| conv(layer)))
        .collect()
}
