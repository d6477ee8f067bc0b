//! Phi-3, Phi-4 and Phi-4-mini: queries, keys and values in one tensor, gate and up in another; LongRoPE, and a
//! rotation of part of each head.

use hub_nn::spec::{ModelSpec, Pairing};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Decoder, Fused, Sizes, activation},
    keys::DefaultValue,
    names::Names,
    rope::{self, RopeShape},
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "phi3",
    architectures: &["Phi3ForCausalLM"],
    model_types: &["phi3"],
    defaults: &[
        ("hidden_act", DefaultValue::Text("silu")),
        ("max_position_embeddings", DefaultValue::Whole(4_096)),
        ("original_max_position_embeddings", DefaultValue::Whole(4_096)),
        ("rms_norm_eps", DefaultValue::Number(1e-5)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "phi3", read: Some(from_gguf), write: Some(written::plain) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let rope = rope::from_config(keys, RopeShape::of(&sizes))?;
    keys.skip("original_max_position_embeddings");
    // Keys that the code beside the first files read, at the values that all files have.
    for key in ["attention_bias", "lm_head_bias", "mlp_bias"] {
        keys.only(key, "false")?;
    }
    for key in ["full_attn_mod", "interpolate_factor"] {
        keys.only(key, "1")?;
    }
    let decoder = Decoder {
        activation: activation(keys, "hidden_act")?,
        fused: Fused { query_key_value: true, gate_up: true },
        is_tied: keys.flag("tie_word_embeddings", false)?,
        ..Decoder::new(Names::HUGGING_FACE, sizes, keys.maybe_size("sliding_window")?, rope)
    };
    Ok(decoder.spec("phi3", files))
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let rope = rope::from_gguf(keys, files, Pairing::Halves, RopeShape::of(&sizes))?;
    // Phi-4's converted file says 0 where the model has no window.
    let window = keys.maybe_size("attention.sliding_window")?.filter(|window| *window > 0);
    let decoder = Decoder {
        fused: Fused { query_key_value: true, gate_up: true },
        is_tied: !files.has(Names::GGUF.head()),
        ..Decoder::new(Names::GGUF, sizes, window, rope)
    };
    Ok(decoder.spec("phi3", files))
}
