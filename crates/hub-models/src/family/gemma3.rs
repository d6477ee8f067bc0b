//! Gemma 3 (text): as Gemma 2 without caps, a norm on each query and key head, and five windowed layers to a full one,
//! each kind with its own rotation.

use hub_nn::spec::{ModelSpec, NormScope, Pairing, RopeScaling, RopeSpec};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Decoder, Sizes, gguf_windowed_layers, windowed_but_every, windowed_layers},
    gemma2::{SANDWICH, gemma, gguf_score_scale, sandwich},
    keys::DefaultValue,
    names::Names,
    rope::{self, RopeShape},
    written,
};

/// One layer in so many sees everything, where the files do not say.
const PATTERN: usize = 6;
/// The base of the angles of windowed layers, where the files do not say.
const LOCAL_BASE: f32 = 10_000.0;

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "gemma3",
    architectures: &["Gemma3ForCausalLM"],
    model_types: &["gemma3_text"],
    defaults: &[
        ("head_dim", DefaultValue::Whole(256)),
        ("hidden_activation", DefaultValue::Text("gelu_pytorch_tanh")),
        ("max_position_embeddings", DefaultValue::Whole(131_072)),
        ("num_key_value_heads", DefaultValue::Whole(4)),
        ("query_pre_attn_scalar", DefaultValue::Number(256.0)),
        ("rms_norm_eps", DefaultValue::Number(1e-6)),
        ("sliding_window", DefaultValue::Whole(4_096)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "gemma3", read: Some(from_gguf), write: Some(written::plain) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    keys.only("use_bidirectional_attention", "false")?;
    Ok(decoder(keys, |window| window)?.spec("gemma3", files))
}

/// Reads the layers, with what `window` makes of the window in the files.
pub(super) fn decoder(keys: &Keys<'_>, window: impl Fn(usize) -> usize) -> Result<Decoder, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let local_base = keys.maybe_number("rope_local_base_freq")?.unwrap_or(LOCAL_BASE);
    let (global, local) = rope::by_layer_type(keys, shape(&sizes), local_base)?;
    let pattern = keys.maybe_size("sliding_window_pattern")?.or(keys.maybe_size("_sliding_window_pattern")?);
    let windowed = windowed_layers(keys, sizes.layers)?;
    let windowed = windowed.unwrap_or_else(|| windowed_but_every(pattern.unwrap_or(PATTERN), sizes.layers));
    let window = keys.maybe_size("sliding_window")?.map(window);
    let decoder = gemma(keys, Decoder::new(SANDWICH, sizes, None, global.clone()))?;
    let layers = alternate(&windowed, window, &global, &local);
    Ok(Decoder { layers, head_norms: Some(NormScope::Head), ..decoder })
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    Ok(gguf_decoder(keys, files, |window| window)?.spec("gemma3", files))
}

/// The same of a GGUF file.
pub(super) fn gguf_decoder(
    keys: &Keys<'_>,
    files: &Files<'_>,
    of_window: impl Fn(usize) -> usize,
) -> Result<Decoder, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let global = rope::from_gguf(keys, files, Pairing::Halves, shape(&sizes))?;
    let base = keys.maybe_number("rope.freq_base_swa")?.unwrap_or(LOCAL_BASE);
    let local = RopeSpec { base, scaling: RopeScaling::None, ..global.clone() };
    let window = keys.maybe_size("attention.sliding_window")?.filter(|window| *window > 0);
    let mut windowed = gguf_windowed_layers(keys, sizes.layers, PATTERN)?;
    if window.is_none() {
        windowed.fill(false);
    }
    Ok(Decoder {
        layers: alternate(&windowed, window.map(of_window), &global, &local),
        head_norms: Some(NormScope::Head),
        score_scale: Some(gguf_score_scale(sizes)),
        logit_cap: keys.maybe_number("final_logit_softcapping")?,
        is_tied: !files.has(Names::GGUF.head()),
        ..sandwich(Decoder::new(Names::GGUF, sizes, None, global))
    })
}

/// Gives windowed layers the window and the local rotation, and the others the global one.
pub(super) fn alternate(
    windowed: &[bool],
    window: Option<usize>,
    global: &RopeSpec,
    local: &RopeSpec,
) -> Vec<(Option<usize>, Option<RopeSpec>)> {
    let layer = |is_windowed: &bool| match is_windowed {
        true => (window, Some(local.clone())),
        false => (None, Some(global.clone())),
    };
    windowed.iter().map(layer).collect()
}

fn shape(sizes: &Sizes) -> RopeShape {
    RopeShape { default_base: 1_000_000.0, ..RopeShape::of(sizes) }
}
