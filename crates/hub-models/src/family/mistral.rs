//! Mistral and Mistral Nemo, from Hugging Face folders; their GGUF files call themselves Llama.

use hub_nn::spec::ModelSpec;

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Decoder, Sizes, activation},
    keys::DefaultValue,
    names::Names,
    rope::{self, RopeShape},
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "mistral",
    architectures: &["MistralForCausalLM"],
    model_types: &["mistral"],
    defaults: &[
        ("hidden_act", DefaultValue::Text("silu")),
        ("max_position_embeddings", DefaultValue::Whole(131_072)),
        ("num_key_value_heads", DefaultValue::Whole(8)),
        ("rms_norm_eps", DefaultValue::Number(1e-6)),
        ("sliding_window", DefaultValue::Whole(4_096)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "llama", read: None, write: Some(written::plain) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let rope = rope::from_config(keys, RopeShape::of(&sizes))?;
    let decoder = Decoder {
        activation: activation(keys, "hidden_act")?,
        is_tied: keys.flag("tie_word_embeddings", false)?,
        ..Decoder::new(Names::HUGGING_FACE, sizes, keys.maybe_size("sliding_window")?, rope)
    };
    Ok(decoder.spec("mistral", files))
}
