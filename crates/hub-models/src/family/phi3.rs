//! Phi-3, Phi-4 and Phi-4-mini: queries, keys and values in one tensor, gate and up in another; LongRoPE, and a
//! rotation of part of each head.

use hub_nn::spec::{ModelSpec, Pairing};

use super::{
    FamilyError, FamilySpec, Files, Keys,
    decoder::{Decoder, Sizes, activation},
    names::Names,
    rope::{self, RopeShape},
};

pub(super) static SPEC: FamilySpec =
    FamilySpec { name: "phi3", architectures: &["Phi3ForCausalLM"], gguf: &["phi3"], from_config, from_gguf };

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let rope = rope::from_config(keys, shape(&sizes))?;
    keys.skip("original_max_position_embeddings");
    keys.only("attention_bias", "false")?;
    let decoder = Decoder {
        activation: activation(keys, "hidden_act")?,
        is_fused: true,
        is_tied: keys.flag("tie_word_embeddings", false)?,
        ..Decoder::new(Names::HuggingFace, sizes, keys.maybe_size("sliding_window")?, rope)
    };
    Ok(decoder.spec("phi3", files))
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let rope = rope::from_gguf(keys, files, Pairing::Halves, shape(&sizes))?;
    // Phi-4's converted file says 0 where the model has no window.
    let window = keys.maybe_size("attention.sliding_window")?.filter(|window| *window > 0);
    let decoder = Decoder {
        is_fused: true,
        is_tied: !files.has(Names::Gguf.head()),
        ..Decoder::new(Names::Gguf, sizes, window, rope)
    };
    Ok(decoder.spec("phi3", files))
}

fn shape(sizes: &Sizes) -> RopeShape {
    RopeShape { head_dim: sizes.head_dim, context_tokens: sizes.context, default_base: 10_000.0 }
}
