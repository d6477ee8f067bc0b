//! SmolLM3: as Llama, with layers that do not rotate queries and keys.

use hub_nn::spec::{ModelSpec, Pairing};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Biases, Decoder, Sizes, activation, windowed_layers},
    keys::DefaultValue,
    names::Names,
    rope::{self, RopeShape},
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "smollm3",
    architectures: &["SmolLM3ForCausalLM"],
    model_types: &["smollm3"],
    defaults: &[
        ("hidden_act", DefaultValue::Text("silu")),
        ("max_position_embeddings", DefaultValue::Whole(32_768)),
        ("no_rope_layer_interval", DefaultValue::Whole(4)),
        ("num_key_value_heads", DefaultValue::Whole(4)),
        ("rms_norm_eps", DefaultValue::Number(1e-6)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "smollm3", read: Some(from_gguf), write: Some(written::plain) }),
};

/// In GGUF files every so many layers do not rotate; the format does not say.
const GGUF_INTERVAL: usize = 4;

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let shape = RopeShape { default_base: 2_000_000.0, ..RopeShape::of(&sizes) };
    let rope = rope::from_config(keys, shape)?;
    let window = keys.maybe_size("sliding_window")?.filter(|window| *window > 0);
    let window = if keys.flag("use_sliding_window", false)? { window } else { None };
    let interval = keys.size("no_rope_layer_interval")?;
    let listed = keys.sizes("no_rope_layers")?;
    // 1 where a layer rotates.
    let rotates = |layer: usize| match listed.get(layer) {
        Some(rotates) => *rotates != 0,
        None => interval == 0 || !(layer + 1).is_multiple_of(interval),
    };
    let windowed = windowed_layers(keys, sizes.layers)?;
    let windowed = windowed.unwrap_or_else(|| (0..sizes.layers).map(|layer| !rotates(layer)).collect());
    let attention = keys.flag("attention_bias", false)?;
    let mut decoder = Decoder {
        activation: activation(keys, "hidden_act")?,
        biases: Biases {
            query_key_value: attention,
            output: attention,
            mlp: keys.flag("mlp_bias", false)?,
            ..Biases::default()
        },
        is_tied: keys.flag("tie_word_embeddings", true)?,
        ..Decoder::new(Names::HUGGING_FACE, sizes, None, rope)
    };
    decoder.rotate_if(rotates);
    decoder.window_if(window, &windowed);
    Ok(decoder.spec("smollm3", files))
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let rope = rope::from_gguf(keys, files, Pairing::Interleaved, RopeShape::of(&sizes))?;
    let is_tied = !files.has(Names::GGUF.head());
    let mut decoder = Decoder { is_tied, ..Decoder::new(Names::GGUF, sizes, None, rope) };
    decoder.rotate_if(|layer| !(layer + 1).is_multiple_of(GGUF_INTERVAL));
    Ok(decoder.spec("smollm3", files))
}
