//! Qwen2 and Qwen2.5: biases on queries, keys and values; a window on the upper layers where it is switched on.

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
    name: "qwen2",
    architectures: &["Qwen2ForCausalLM"],
    model_types: &["qwen2"],
    defaults: &[
        ("hidden_act", DefaultValue::Text("silu")),
        ("max_position_embeddings", DefaultValue::Whole(32_768)),
        ("max_window_layers", DefaultValue::Whole(28)),
        ("num_key_value_heads", DefaultValue::Whole(32)),
        ("rms_norm_eps", DefaultValue::Number(1e-6)),
        ("sliding_window", DefaultValue::Whole(4_096)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "qwen2", read: Some(from_gguf), write: Some(written::plain) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let mut decoder = plain(keys)?;
    decoder.biases = Biases { query_key_value: true, ..Biases::default() };
    Ok(decoder.spec("qwen2", files))
}

/// Reads what Qwen2 and Qwen3 have in common.
pub(super) fn plain(keys: &Keys<'_>) -> Result<Decoder, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let rope = rope::from_config(keys, RopeShape::of(&sizes))?;
    let window = keys.maybe_size("sliding_window")?;
    let is_on = keys.flag("use_sliding_window", false)?;
    let first_windowed = keys.maybe_size("max_window_layers")?.unwrap_or(sizes.layers);
    let windowed = windowed_layers(keys, sizes.layers)?;
    // transformers writes the list from these very keys, so older files without it mean the same.
    let windowed =
        windowed.unwrap_or_else(|| (0..sizes.layers).map(|layer| layer >= first_windowed).collect());
    let mut decoder = Decoder {
        activation: activation(keys, "hidden_act")?,
        is_tied: keys.flag("tie_word_embeddings", false)?,
        ..Decoder::new(Names::HUGGING_FACE, sizes, None, rope)
    };
    decoder.window_if(window.filter(|_| is_on), &windowed);
    // Released only with text: what these keys of other Qwen models do does not exist here.
    keys.only("use_mrope", "false")?;
    Ok(decoder)
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let mut decoder = plain_gguf(keys, files)?;
    decoder.biases = Biases { query_key_value: true, ..Biases::default() };
    Ok(decoder.spec("qwen2", files))
}

/// Reads what the GGUF files of Qwen2 and Qwen3 have in common.
pub(super) fn plain_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<Decoder, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let rope = rope::from_gguf(keys, files, Pairing::Halves, RopeShape::of(&sizes))?;
    let is_tied = !files.has(Names::GGUF.head());
    Ok(Decoder { is_tied, ..Decoder::new(Names::GGUF, sizes, None, rope) })
}
