//! StableLM 2: a quarter of each head rotated, norms by mean and deviation with biases; in the 12B model, norms of
//! queries and keys of which each head has its own.

use hub_nn::spec::{ModelSpec, NormKind, NormScope, Pairing};

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
        // The 12B model: a norm of its own for each head.
        head_norms: keys.flag("qk_layernorm", false)?.then_some(NormScope::EachHead),
        ..Decoder::new(Names::HUGGING_FACE, sizes, None, rope)
    };
    let mut spec = decoder.spec("stablelm", files);
    spec.each_tensor(&mut |tensor| tensor.name = tensor.name.replace("_norm.", "_layernorm."));
    Ok(spec)
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let rope = rope::from_gguf(keys, files, Pairing::Halves, RopeShape::of(&sizes))?;
    let decoder = Decoder {
        biases: Biases::in_gguf(files),
        norm_kind: NormKind::Layer,
        is_parallel: keys.flag("use_parallel_residual", false)?,
        is_tied: !files.has(Names::GGUF.head()),
        head_norms: files.has("blk.0.attn_q_norm.weight").then_some(NormScope::EachHead),
        ..Decoder::new(Names::GGUF, sizes, None, rope)
    };
    Ok(decoder.spec("stablelm", files))
}
