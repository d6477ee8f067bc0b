//! Seed-OSS: as Llama, with biases of queries, keys and values.

use hub_nn::spec::{ModelSpec, Pairing};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Biases, Decoder, Sizes, activation},
    keys::DefaultValue,
    names::Names,
    rope::{self, RopeShape},
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "seed-oss",
    architectures: &["SeedOssForCausalLM"],
    model_types: &["seed_oss"],
    defaults: &[
        ("head_dim", DefaultValue::Whole(128)),
        ("hidden_act", DefaultValue::Text("silu")),
        ("max_position_embeddings", DefaultValue::Whole(524_288)),
        ("num_key_value_heads", DefaultValue::Whole(8)),
        ("rms_norm_eps", DefaultValue::Number(1e-6)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "seed_oss", read: Some(from_gguf), write: Some(written::plain) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let rope = rope::from_config(keys, RopeShape::of(&sizes))?;
    let decoder = Decoder {
        activation: activation(keys, "hidden_act")?,
        biases: Biases {
            query_key_value: keys.flag("attention_bias", true)?,
            output: keys.flag("attention_out_bias", false)?,
            mlp: keys.flag("mlp_bias", false)?,
            ..Biases::default()
        },
        is_tied: keys.flag("tie_word_embeddings", false)?,
        ..Decoder::new(Names::HUGGING_FACE, sizes, None, rope)
    };
    Ok(decoder.spec("seed-oss", files))
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let rope = rope::from_gguf(keys, files, Pairing::Halves, RopeShape::of(&sizes))?;
    let decoder = Decoder {
        biases: Biases::in_gguf(files),
        is_tied: !files.has(Names::GGUF_AFTER.head()),
        ..Decoder::new(Names::GGUF_AFTER, sizes, None, rope)
    };
    Ok(decoder.spec("seed-oss", files))
}
