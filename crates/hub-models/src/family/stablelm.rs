//! StableLM 2: a quarter of each head rotated, norms by mean and deviation with biases.

use hub_nn::spec::{ModelSpec, NormKind, Pairing};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Biases, Decoder, Sizes, activation},
    keys::DefaultValue,
    names::Names,
    rope::{self, RopeShape},
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "stablelm",
    architectures: &["StableLmForCausalLM"],
    model_types: &["stablelm"],
    defaults: &[
        ("hidden_act", DefaultValue::Text("silu")),
        ("layer_norm_eps", DefaultValue::Number(1e-5)),
        ("max_position_embeddings", DefaultValue::Whole(4_096)),
        ("num_key_value_heads", DefaultValue::Whole(32)),
        ("partial_rotary_factor", DefaultValue::Number(0.25)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "stablelm", read: Some(from_gguf), write: Some(written::parallel) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config_with(keys, "layer_norm_eps")?;
    let rope = rope::from_config(keys, RopeShape::of(&sizes))?;
    // The 12B model: a norm of its own for each head.
    keys.only("qk_layernorm", "false")?;
    let decoder = Decoder {
        activation: activation(keys, "hidden_act")?,
        biases: Biases {
            norms: true,
            query_key_value: keys.flag("use_qkv_bias", false)?,
            ..Biases::default()
        },
        norm_kind: NormKind::Layer,
        is_parallel: keys.flag("use_parallel_residual", false)?,
        is_tied: keys.flag("tie_word_embeddings", false)?,
        ..Decoder::new(Names::HuggingFace, sizes, None, rope)
    };
    Ok(decoder.spec("stablelm", files))
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let rope = rope::from_gguf(keys, files, Pairing::Halves, RopeShape::of(&sizes))?;
    let decoder = Decoder {
        biases: Biases::in_gguf(files),
        norm_kind: NormKind::Layer,
        is_parallel: keys.flag("use_parallel_residual", false)?,
        is_tied: !files.has(Names::Gguf.head()),
        ..Decoder::new(Names::Gguf, sizes, None, rope)
    };
    Ok(decoder.spec("stablelm", files))
}
