//! Cohere 2 (Command R7B, Aya): attention and MLP read the same, norms by mean and deviation without biases; layers with a
//! window rotate in pairs, the others do not.

use hub_nn::spec::{ModelSpec, NormKind, Pairing};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Biases, Decoder, Sizes, activation, windowed_but_every, windowed_layers},
    keys::DefaultValue,
    names::Names,
    rope::{self, RopeShape},
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "cohere2",
    architectures: &["Cohere2ForCausalLM"],
    model_types: &["cohere2"],
    defaults: &[
        ("hidden_act", DefaultValue::Text("silu")),
        ("layer_norm_eps", DefaultValue::Number(1e-5)),
        ("logit_scale", DefaultValue::Number(0.0625)),
        ("max_position_embeddings", DefaultValue::Whole(8_192)),
        ("sliding_window", DefaultValue::Whole(4_096)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "cohere2", read: Some(from_gguf), write: Some(written::logit_scaled) }),
};

/// How many layers after each other have one that sees all, where files do not say.
const PATTERN: usize = 4;

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config_with(keys, "layer_norm_eps")?;
    let mut rope = rope::from_config(keys, RopeShape::of(&sizes))?;
    rope.pairing = Pairing::Interleaved;
    // What the first files say besides, at the values that all of them have.
    for (key, value) in [
        ("order_of_interleaved_layers", "local_attn_first"),
        ("position_embedding_type", "rope_gptj"),
        ("use_embedding_sharing", "true"),
        ("use_gated_activation", "true"),
        ("use_parallel_block", "true"),
        ("use_parallel_embedding", "false"),
        ("use_qk_norm", "false"),
    ] {
        keys.only(key, value)?;
    }
    if keys.maybe_number("rotary_pct")?.is_some_and(|share| share != 1.0) {
        return Err(keys.unsupported("rotary_pct", "1"));
    }
    let window = keys.maybe_size("sliding_window")?;
    let listed = windowed_layers(keys, sizes.layers)?;
    let (pattern, switch) = (keys.maybe_size("sliding_window_pattern")?, keys.maybe_size("layer_switch")?);
    // How transformers 4 writes the pattern back.
    let written = keys.maybe_size("_sliding_window_pattern")?;
    let pattern = pattern.or(written).or(switch).unwrap_or(PATTERN);
    let windowed = listed.unwrap_or_else(|| windowed_but_every(pattern, sizes.layers));
    let attention = keys.flag("attention_bias", false)?;
    let decoder = Decoder {
        activation: activation(keys, "hidden_act")?,
        biases: Biases::of_attention(attention),
        logit_scale: keys.number("logit_scale")?,
        is_tied: keys.flag("tie_word_embeddings", true)?,
        ..parallel(Decoder::new(Names::HUGGING_FACE, sizes, None, rope), window, &windowed)
    };
    Ok(decoder.spec("cohere2", files))
}

fn parallel(mut decoder: Decoder, window: Option<usize>, windowed: &[bool]) -> Decoder {
    decoder.rotate_if(|layer| windowed.get(layer).copied().unwrap_or(false));
    decoder.window_if(window, windowed);
    Decoder { is_parallel: true, norm_kind: NormKind::Layer, ..decoder }
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let rope = rope::from_gguf(keys, files, Pairing::Interleaved, RopeShape::of(&sizes))?;
    let window = keys.maybe_size("attention.sliding_window")?.filter(|window| *window > 0);
    let windowed = windowed_but_every(PATTERN, sizes.layers);
    let decoder = Decoder {
        logit_scale: keys.number("logit_scale")?,
        is_tied: !files.has(Names::GGUF.head()),
        ..parallel(Decoder::new(Names::GGUF, sizes, None, rope), window, &windowed)
    };
    Ok(decoder.spec("cohere2", files))
}
