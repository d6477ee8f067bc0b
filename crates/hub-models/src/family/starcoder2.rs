//! StarCoder 2: an MLP without a gate, biases everywhere, norms by mean and deviation.

use hub_nn::spec::{Activation, ModelSpec, NormKind, Pairing};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Biases, Decoder, Sizes, activation},
    keys::DefaultValue,
    names::Names,
    rope::{self, RopeShape},
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "starcoder2",
    architectures: &["Starcoder2ForCausalLM"],
    model_types: &["starcoder2"],
    defaults: &[
        ("hidden_act", DefaultValue::Text("gelu_pytorch_tanh")),
        ("max_position_embeddings", DefaultValue::Whole(4_096)),
        ("norm_epsilon", DefaultValue::Number(1e-5)),
        ("num_key_value_heads", DefaultValue::Whole(2)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "starcoder2", read: Some(from_gguf), write: Some(written::plain) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config_with(keys, "norm_epsilon")?;
    let rope = rope::from_config(keys, RopeShape::of(&sizes))?;
    // What the first files say besides.
    keys.only("mlp_type", "default")?;
    keys.only("norm_type", "layer_norm")?;
    let has = keys.flag("use_bias", true)?;
    let decoder = Decoder {
        activation: activation(keys, "hidden_act")?,
        is_gated: false,
        biases: Biases { norms: true, query_key_value: has, output: has, mlp: has },
        norm_kind: NormKind::Layer,
        is_tied: keys.flag("tie_word_embeddings", true)?,
        ..Decoder::new(Names::HUGGING_FACE, sizes, keys.maybe_size("sliding_window")?, rope)
    };
    Ok(decoder.spec("starcoder2", files))
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let rope = rope::from_gguf(keys, files, Pairing::Halves, RopeShape::of(&sizes))?;
    let decoder = Decoder {
        activation: Activation::GeluTanh,
        is_gated: false,
        biases: Biases::in_gguf(files),
        norm_kind: NormKind::Layer,
        is_tied: !files.has(Names::GGUF.head()),
        ..Decoder::new(Names::GGUF, sizes, None, rope)
    };
    Ok(decoder.spec("starcoder2", files))
}
