//! Gemma 3 (text): as Gemma 2 without caps, a norm on each query and key head, and five windowed layers to a full one,
//! each kind with its own rotation.

use hub_nn::spec::{ModelSpec, Pairing, RopeScaling, RopeSpec};

use super::{
    FamilyError, FamilySpec, Files, Keys,
    decoder::{Decoder, Sizes, windowed_layers},
    gemma2::{gemma, gguf_score_scale, sandwich},
    names::Names,
    rope::{self, RopeShape},
};

/// One layer in so many sees everything, where the files do not say.
const PATTERN: usize = 6;
/// The base of the angles of windowed layers, where the files do not say.
const LOCAL_BASE: f32 = 10_000.0;

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "gemma3",
    architectures: &["Gemma3ForCausalLM"],
    gguf: &["gemma3"],
    from_config,
    from_gguf,
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let (global, local) = ropes(keys, shape(&sizes))?;
    let pattern = keys.maybe_size("sliding_window_pattern")?.or(keys.maybe_size("_sliding_window_pattern")?);
    let windowed = windowed_layers(keys, sizes.layers)?;
    let windowed = windowed.unwrap_or_else(|| by_pattern(sizes.layers, pattern.unwrap_or(PATTERN)));
    let window = keys.maybe_size("sliding_window")?.or(Some(4_096));
    let decoder = gemma(keys, Decoder::new(Names::HuggingFaceSandwich, sizes, None, global.clone()))?;
    let layers = alternate(&windowed, window, &global, &local);
    Ok(Decoder { layers, has_head_norms: true, ..decoder }.spec("gemma3", files))
}

/// Returns the rotations of full and of windowed layers.
fn ropes(keys: &Keys<'_>, shape: RopeShape) -> Result<(RopeSpec, RopeSpec), FamilyError> {
    let local_base = keys.maybe_number("rope_local_base_freq")?.unwrap_or(LOCAL_BASE);
    if let Some(both) = keys.below("rope_parameters")? {
        keys.skip("rope_theta");
        keys.skip("rope_scaling");
        let one = |name: &str, base: f32| {
            let parameters = both.below(name)?.ok_or_else(|| both.missing(name))?;
            let base = parameters.maybe_number("rope_theta")?.unwrap_or(base);
            rope::from_parameters(keys, &parameters, base, shape)
        };
        let ropes = (one("full_attention", shape.default_base)?, one("sliding_attention", local_base)?);
        both.finish()?;
        return Ok(ropes);
    }
    let global = rope::from_config(keys, shape)?;
    let local = RopeSpec { base: local_base, scaling: RopeScaling::None, ..global.clone() };
    Ok((global, local))
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let global = rope::from_gguf(keys, files, Pairing::Halves, shape(&sizes))?;
    let base = keys.maybe_number("rope.freq_base_swa")?.unwrap_or(LOCAL_BASE);
    let local = RopeSpec { base, scaling: RopeScaling::None, ..global.clone() };
    let window = keys.maybe_size("attention.sliding_window")?;
    keys.skip("attention.sliding_window_pattern");
    let decoder = Decoder {
        layers: alternate(&by_pattern(sizes.layers, PATTERN), window, &global, &local),
        has_head_norms: true,
        score_scale: Some(gguf_score_scale(sizes)),
        logit_cap: keys.maybe_number("final_logit_softcapping")?,
        is_tied: !files.has(Names::Gguf.head()),
        ..sandwich(Decoder::new(Names::Gguf, sizes, None, global))
    };
    Ok(decoder.spec("gemma3", files))
}

/// Says which layers are windowed: all but each `pattern`-th.
fn by_pattern(layers: usize, pattern: usize) -> Vec<bool> {
    (1..=layers).map(|layer| pattern == 0 || layer % pattern != 0).collect()
}

fn alternate(
    windowed: &[bool],
    window: Option<usize>,
    global: &RopeSpec,
    local: &RopeSpec,
) -> Vec<(Option<usize>, RopeSpec)> {
    let layer = |is_windowed: &bool| match is_windowed {
        true => (window, local.clone()),
        false => (None, global.clone()),
    };
    windowed.iter().map(layer).collect()
}

fn shape(sizes: &Sizes) -> RopeShape {
    RopeShape { head_dim: sizes.head_dim, context_tokens: sizes.context, default_base: 1_000_000.0 }
}
