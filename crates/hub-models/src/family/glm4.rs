//! GLM-4 (0414): norms around each sublayer, half of each head rotated in pairs, gate and up in one tensor.

use hub_nn::spec::{ModelSpec, Pairing};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Biases, Decoder, Fused, Norms, Sizes, activation},
    keys::DefaultValue,
    names::{Names, Part},
    rope::{self, RopeShape},
    written,
};

const NAMES: Names = Names::HUGGING_FACE.with(&[
    (Part::MixerAfterNorm, "post_self_attn_layernorm"),
    (Part::MlpNorm, "post_attention_layernorm"),
    (Part::MlpAfterNorm, "post_mlp_layernorm"),
]);

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "glm4",
    architectures: &["Glm4ForCausalLM"],
    model_types: &["glm4"],
    defaults: &[
        ("head_dim", DefaultValue::Whole(128)),
        ("hidden_act", DefaultValue::Text("silu")),
        ("max_position_embeddings", DefaultValue::Whole(131_072)),
        ("num_key_value_heads", DefaultValue::Whole(2)),
        ("partial_rotary_factor", DefaultValue::Number(0.5)),
        ("rms_norm_eps", DefaultValue::Number(1.5625e-7)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "glm4", read: Some(from_gguf), write: Some(written::plain) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let mut rope = rope::from_config(keys, RopeShape::of(&sizes))?;
    rope.pairing = Pairing::Interleaved;
    let decoder = Decoder {
        activation: activation(keys, "hidden_act")?,
        biases: Biases { query_key_value: keys.flag("attention_bias", true)?, ..Biases::default() },
        is_tied: keys.flag("tie_word_embeddings", false)?,
        ..around(Decoder::new(NAMES, sizes, None, rope))
    };
    Ok(decoder.spec("glm4", files))
}

fn around(decoder: Decoder) -> Decoder {
    let fused = Fused { query_key_value: false, gate_up: true };
    Decoder { norms: Norms::Around, fused, ..decoder }
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let rope = rope::from_gguf(keys, files, Pairing::Interleaved, RopeShape::of(&sizes))?;
    let decoder = Decoder {
        biases: Biases::in_gguf(files),
        is_tied: !files.has(Names::GGUF.head()),
        ..around(Decoder::new(Names::GGUF, sizes, None, rope))
    };
    Ok(decoder.spec("glm4", files))
}
