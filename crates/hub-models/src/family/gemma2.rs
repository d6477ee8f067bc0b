//! Gemma 2: norms on both sides of each sublayer, caps on scores and logits, a window on every other layer.

use hub_nn::spec::{Activation, ModelSpec, Pairing};

use super::{
    FamilyError, FamilySpec, Files, Keys,
    decoder::{Biases, Decoder, Sizes, activation, windowed_layers},
    names::Names,
    rope::{self, RopeShape},
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "gemma2",
    architectures: &["Gemma2ForCausalLM"],
    gguf: &["gemma2"],
    from_config,
    from_gguf,
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let rope = rope::from_config(keys, shape(&sizes))?;
    let mut decoder = gemma(keys, Decoder::new(Names::HuggingFaceSandwich, sizes, None, rope))?;
    let window = keys.maybe_size("sliding_window")?.or(Some(4_096));
    let windowed = windowed_layers(keys, sizes.layers)?;
    let windowed = windowed.unwrap_or_else(|| (0..sizes.layers).map(|layer| layer % 2 == 0).collect());
    for (layer, is_windowed) in decoder.layers.iter_mut().zip(windowed) {
        layer.0 = window.filter(|_| is_windowed);
    }
    Ok(decoder.spec("gemma2", files))
}

/// Reads what Gemma 2 and 3 have in common beyond their sizes and layers.
pub(super) fn gemma(keys: &Keys<'_>, decoder: Decoder) -> Result<Decoder, FamilyError> {
    keys.only("use_bidirectional_attention", "false")?;
    // Gemma's first files named an activation they did not mean; `hidden_activation` is what counts.
    keys.skip("hidden_act");
    let attention = keys.flag("attention_bias", false)?;
    let scalar = keys.maybe_number("query_pre_attn_scalar")?.unwrap_or(256.0);
    Ok(Decoder {
        activation: activation(keys, "hidden_activation")?,
        biases: Biases { query_key_value: attention, output: attention, mlp: false },
        score_scale: Some(1.0 / scalar.sqrt()),
        score_cap: keys.maybe_number("attn_logit_softcapping")?,
        logit_cap: keys.maybe_number("final_logit_softcapping")?,
        norm_offset: 1.0,
        is_tied: keys.flag("tie_word_embeddings", true)?,
        ..sandwich(decoder)
    })
}

/// What every Gemma is, whatever its files say.
pub(super) fn sandwich(decoder: Decoder) -> Decoder {
    let embedding_scale = (decoder.sizes.hidden as f32).sqrt();
    Decoder { activation: Activation::GeluTanh, is_sandwich: true, embedding_scale, ..decoder }
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let rope = rope::from_gguf(keys, files, Pairing::Halves, shape(&sizes))?;
    let window = keys.maybe_size("attention.sliding_window")?;
    let mut decoder = Decoder {
        score_scale: Some(gguf_score_scale(sizes)),
        score_cap: keys.maybe_number("attn_logit_softcapping")?,
        logit_cap: keys.maybe_number("final_logit_softcapping")?,
        is_tied: !files.has(Names::Gguf.head()),
        ..sandwich(Decoder::new(Names::Gguf, sizes, None, rope))
    };
    for (index, layer) in decoder.layers.iter_mut().enumerate() {
        layer.0 = window.filter(|_| index % 2 == 0);
    }
    Ok(decoder.spec("gemma2", files))
}

/// The format has no key for it; as llama.cpp, by the one size whose scale is not that of its heads.
pub(super) fn gguf_score_scale(sizes: Sizes) -> f32 {
    let is_27b = matches!(sizes.layers, 46 | 62);
    let width = if is_27b { sizes.hidden as f32 / sizes.heads as f32 } else { sizes.head_dim as f32 };
    1.0 / width.sqrt()
}

fn shape(sizes: &Sizes) -> RopeShape {
    RopeShape { head_dim: sizes.head_dim, context_tokens: sizes.context, default_base: 10_000.0 }
}
