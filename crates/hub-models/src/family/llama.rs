//! Llama 2 and 3, and what keeps their shape: CodeLlama, SmolLM, TinyLlama, Mistral's GGUF files.

use hub_nn::spec::{ModelSpec, Pairing};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Biases, Decoder, Sizes, activation},
    experts::Mixture,
    keys::DefaultValue,
    names::Names,
    rope::{self, RopeShape},
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "llama",
    architectures: &["LlamaForCausalLM"],
    model_types: &["llama"],
    defaults: &[
        ("hidden_act", DefaultValue::Text("silu")),
        ("max_position_embeddings", DefaultValue::Whole(2_048)),
        ("rms_norm_eps", DefaultValue::Number(1e-6)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "llama", read: Some(from_gguf), write: Some(written::plain) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let rope = rope::from_config(keys, RopeShape::of(&sizes))?;
    // SmolLM's files say in which order their weights once were.
    keys.only("rope_interleaved", "false")?;
    let attention = keys.flag("attention_bias", false)?;
    let decoder = Decoder {
        activation: activation(keys, "hidden_act")?,
        biases: Biases {
            query_key_value: attention,
            output: attention,
            mlp: keys.flag("mlp_bias", false)?,
            ..Biases::default()
        },
        is_tied: keys.flag("tie_word_embeddings", false)?,
        ..Decoder::new(Names::HUGGING_FACE, sizes, None, rope)
    };
    Ok(decoder.spec("llama", files))
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let rope = rope::from_gguf(keys, files, Pairing::Interleaved, RopeShape::of(&sizes))?;
    // Mixtral's files go under this name.
    let experts = Mixture::from_gguf(keys, &sizes)?;
    let window = keys.maybe_size("attention.sliding_window")?.filter(|window| *window > 0);
    let decoder = Decoder {
        biases: Biases::in_gguf(files),
        experts,
        is_tied: !files.has(Names::GGUF.head()),
        ..Decoder::new(Names::GGUF, sizes, window, rope)
    };
    Ok(decoder.spec("llama", files))
}
