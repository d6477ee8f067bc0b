//! Granite 3 (dense): Llama's shape with four multipliers.

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
    name: "granite",
    architectures: &["GraniteForCausalLM"],
    model_types: &["granite"],
    defaults: &[
        ("hidden_act", DefaultValue::Text("silu")),
        ("max_position_embeddings", DefaultValue::Whole(2_048)),
        ("rms_norm_eps", DefaultValue::Number(1e-6)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "granite", read: Some(from_gguf), write: Some(written::scaled) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let mut decoder = plain(keys)?;
    decoder.biases.mlp = keys.flag("mlp_bias", false)?;
    Ok(decoder.spec("granite", files))
}

/// Reads what Granite and its mixtures have in common.
pub(super) fn plain(keys: &Keys<'_>) -> Result<Decoder, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let rope = rope::from_config(keys, RopeShape::of(&sizes))?;
    let attention = keys.flag("attention_bias", false)?;
    Ok(Decoder {
        activation: activation(keys, "hidden_act")?,
        biases: Biases::of_attention(attention),
        score_scale: Some(keys.maybe_number("attention_multiplier")?.unwrap_or(1.0)),
        embedding_scale: keys.maybe_number("embedding_multiplier")?.unwrap_or(1.0),
        residual_scale: keys.maybe_number("residual_multiplier")?.unwrap_or(1.0),
        logit_scale: 1.0 / keys.maybe_number("logits_scaling")?.unwrap_or(1.0),
        is_tied: keys.flag("tie_word_embeddings", false)?,
        ..Decoder::new(Names::HUGGING_FACE, sizes, None, rope)
    })
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    check_rotated(keys)?;
    Ok(plain_gguf(keys, files)?.spec("granite", files))
}

/// Refuses Granite's way to say that queries and keys are not rotated at all, where nothing else says so.
pub(super) fn check_rotated(keys: &Keys<'_>) -> Result<(), FamilyError> {
    keys.only("rope.scaling.finetuned", "true")
}

/// Reads what the GGUF files of both have in common.
pub(super) fn plain_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<Decoder, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let rope = rope::from_gguf(keys, files, Pairing::Interleaved, RopeShape::of(&sizes))?;
    Ok(Decoder {
        biases: Biases::in_gguf(files),
        score_scale: keys.maybe_number("attention.scale")?,
        embedding_scale: keys.maybe_number("embedding_scale")?.unwrap_or(1.0),
        residual_scale: keys.maybe_number("residual_scale")?.unwrap_or(1.0),
        logit_scale: 1.0 / keys.maybe_number("logit_scale")?.unwrap_or(1.0),
        is_tied: !files.has(Names::GGUF.head()),
        ..Decoder::new(Names::GGUF, sizes, None, rope)
    })
}
