//! Gemma 2: norms on both sides of each sublayer, caps on scores and logits, a window on every other layer.

use hub_nn::spec::{Activation, ModelSpec, Pairing};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{
        Biases, Decoder, Norms, Sizes, activation, gguf_windowed_layers, windowed_but_every, windowed_layers,
    },
    keys::DefaultValue,
    names::{Names, Part},
    rope::{self, RopeShape},
    written,
};

/// What Gemma 2 is where its files do not say.
const SCORE_CAP: f64 = 50.0;
const LOGIT_CAP: f64 = 30.0;
const WINDOW: u32 = 4_096;
/// One layer in so many sees everything.
const PATTERN: usize = 2;

/// Layers have norms on both sides, and the one before the MLP has a name of its own.
pub(super) const SANDWICH: Names = Names::HUGGING_FACE.with(&[(Part::MlpNorm, "pre_feedforward_layernorm")]);

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "gemma2",
    architectures: &["Gemma2ForCausalLM"],
    model_types: &["gemma2"],
    defaults: &[
        ("attn_logit_softcapping", DefaultValue::Number(SCORE_CAP)),
        ("final_logit_softcapping", DefaultValue::Number(LOGIT_CAP)),
        ("head_dim", DefaultValue::Whole(256)),
        ("hidden_activation", DefaultValue::Text("gelu_pytorch_tanh")),
        ("max_position_embeddings", DefaultValue::Whole(8_192)),
        ("num_key_value_heads", DefaultValue::Whole(4)),
        ("query_pre_attn_scalar", DefaultValue::Number(256.0)),
        ("rms_norm_eps", DefaultValue::Number(1e-6)),
        ("sliding_window", DefaultValue::Whole(WINDOW)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "gemma2", read: Some(from_gguf), write: Some(written::plain) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let rope = rope::from_config(keys, RopeShape::of(&sizes))?;
    keys.only("use_bidirectional_attention", "false")?;
    let mut decoder = gemma(keys, Decoder::new(SANDWICH, sizes, None, rope))?;
    let window = keys.maybe_size("sliding_window")?;
    // The first files of the larger ones named it twice.
    keys.only("sliding_window_size", &window.unwrap_or(0).to_string())?;
    let windowed = windowed_layers(keys, sizes.layers)?;
    let windowed = windowed.unwrap_or_else(|| windowed_but_every(PATTERN, sizes.layers));
    decoder.window_if(window, &windowed);
    Ok(decoder.spec("gemma2", files))
}

/// Reads what Gemma 2 and 3 have in common beyond their sizes and layers.
pub(super) fn gemma(keys: &Keys<'_>, decoder: Decoder) -> Result<Decoder, FamilyError> {
    // Gemma's first files named an activation they did not mean; `hidden_activation` is what counts.
    keys.skip("hidden_act");
    let attention = keys.flag("attention_bias", false)?;
    let scalar = keys.number("query_pre_attn_scalar")?;
    Ok(Decoder {
        activation: activation(keys, "hidden_activation")?,
        biases: Biases::of_attention(attention),
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
    Decoder { activation: Activation::GeluTanh, norms: Norms::Around, embedding_scale, ..decoder }
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let rope = rope::from_gguf(keys, files, Pairing::Halves, RopeShape::of(&sizes))?;
    let window = keys.maybe_size("attention.sliding_window")?.unwrap_or(WINDOW as usize);
    let windowed = gguf_windowed_layers(keys, sizes.layers, PATTERN)?;
    let mut decoder = Decoder {
        score_scale: Some(gguf_score_scale(sizes)),
        score_cap: Some(keys.maybe_number("attn_logit_softcapping")?.unwrap_or(SCORE_CAP as f32)),
        logit_cap: Some(keys.maybe_number("final_logit_softcapping")?.unwrap_or(LOGIT_CAP as f32)),
        is_tied: !files.has(Names::GGUF.head()),
        ..sandwich(Decoder::new(Names::GGUF, sizes, None, rope))
    };
    decoder.window_if(Some(window), &windowed);
    Ok(decoder.spec("gemma2", files))
}

/// The format has no key for it; as llama.cpp, by the one size whose scale is not that of its heads.
pub(super) fn gguf_score_scale(sizes: Sizes) -> f32 {
    let is_27b = matches!(sizes.layers, 46 | 62);
    let width = if is_27b { sizes.hidden as f32 / sizes.heads as f32 } else { sizes.head_dim as f32 };
    1.0 / width.sqrt()
}
