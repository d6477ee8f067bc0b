//! Mistral and Mistral Nemo, from Hugging Face folders; their GGUF files call themselves Llama.

use hub_nn::spec::ModelSpec;

use super::{
    FamilyError, FamilySpec, Files, Keys,
    decoder::{Decoder, Sizes, activation},
    names::Names,
    rope::{self, RopeShape},
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "mistral",
    architectures: &["MistralForCausalLM"],
    gguf: &[],
    from_config,
    from_gguf: |keys, _| Err(keys.missing("block_count")),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let shape = RopeShape { head_dim: sizes.head_dim, context_tokens: sizes.context, default_base: 10_000.0 };
    let rope = rope::from_config(keys, shape)?;
    let decoder = Decoder {
        activation: activation(keys, "hidden_act")?,
        is_tied: keys.flag("tie_word_embeddings", false)?,
        ..Decoder::new(Names::HuggingFace, sizes, keys.maybe_size("sliding_window")?, rope)
    };
    Ok(decoder.spec("mistral", files))
}
