//! Mistral's models as its own programs keep them: `params.json` beside `consolidated.safetensors`.
//!
//! They compute what [`mistral`](super::mistral), [`mixtral`](super::mixtral) and [`ministral3`](super::ministral3)
//! compute, from tensors of other names; pairs of a head that are rotated together lie side by side.
//!
//! Source: `args.py`, `transformer.py`, `rope.py`, `cache.py` and `moe.py` of
//! <https://github.com/mistralai/mistral-inference>; what newer keys mean, `adapt_config_dict` of vLLM's
//! `transformers_utils/configs/mistral.py`. Checked against the logits of transformers for the same weights:
//! `tests/it/mistral_own.rs`.

use hub_nn::{
    spec::{ModelSpec, Pairing, QueryTemperature, RopeScaling, RopeSpec, YarnScaling},
    weights::Weights,
};
use serde_json::{Map, Value};

use super::{
    FamilyError, Files, Keys,
    decoder::{self, Decoder, Sizes},
    experts::{self, ExpertNames, Mixture},
    names::Names,
    rope,
    text::Layout,
};

/// How long a sequence may be where the file does not say.
const CONTEXT: usize = 128_000;

/// What the tensors of the half that sees begin with.
const OTHERS: &[&str] =
    &["vision_encoder.", "vision_language_adapter.", "patch_merger.", "pre_mm_projector_norm."];

/// Tells whether tensors have the names that Mistral's own programs give them.
pub(super) fn names_tensors_of(weights: &Weights) -> bool {
    weights.info(Names::MISTRAL.table()).is_some()
}

/// Tells whether a configuration is a `params.json`: it names no architecture and calls the width of the model so.
pub(super) fn is_configuration(config: &Map<String, Value>) -> bool {
    config.contains_key("dim") && !config.contains_key("architectures")
}

/// Reads a `params.json`.
pub(super) fn spec(config: &Map<String, Value>, weights: &Weights) -> Result<ModelSpec, FamilyError> {
    let keys = Keys::config("mistral", config);
    refuse(&keys)?;
    let sizes = sizes(&keys)?;
    let windows = windows(&keys, sizes.layers)?;
    let temperature = temperature(&keys)?;
    let experts = experts(&keys, &sizes)?;
    let family = match (&experts, &temperature) {
        (Some(_), _) => "mixtral",
        (None, Some(_)) => "ministral3",
        (None, None) => "mistral",
    };
    let rope = rope(&keys, &sizes, windows.iter().any(Option::is_some))?;
    let decoder = Decoder {
        layers: windows.into_iter().map(|window| (window, Some(rope.clone()))).collect(),
        experts,
        temperature,
        is_tied: keys.flag("tied_embeddings", false)?,
        ..Decoder::new(Names::MISTRAL, sizes, None, rope.clone())
    };
    keys.finish()?;
    let files = Files { known: super::Known::Stored(weights), architecture: family, layout: Layout::PLAIN };
    let mut spec = decoder.spec(family, &files);
    let is_other = |name: &str| OTHERS.iter().any(|prefix| name.starts_with(prefix));
    spec.left_out.extend(files.left_out("belongs to what is not text", is_other));
    Ok(spec)
}

/// Refuses what is not implemented, and notes what changes nothing.
fn refuse(keys: &Keys<'_>) -> Result<(), FamilyError> {
    for (key, neutral) in
        [("model_type", "transformer"), ("activation", "silu"), ("causal", "true"), ("use_biases", "false")]
    {
        keys.only(key, neutral)?;
    }
    if keys.has("quantization") {
        return Err(
            keys.unsupported("quantization", "a folder with f32, f16 or bf16 weights, or a GGUF file,")
        );
    }
    ["max_batch_size", "vision_encoder"].into_iter().for_each(|key| keys.skip(key));
    Ok(())
}

fn sizes(keys: &Keys<'_>) -> Result<Sizes, FamilyError> {
    let longest = keys.maybe_size("max_seq_len")?;
    Ok(Sizes {
        hidden: keys.size("dim")?,
        inner: keys.size("hidden_dim")?,
        layers: decoder::layers(keys, "n_layers")?,
        heads: keys.size("n_heads")?,
        kv_heads: keys.size("n_kv_heads")?,
        head_dim: keys.size("head_dim")?,
        vocab: keys.size("vocab_size")?,
        context: keys.maybe_size("max_position_embeddings")?.or(longest).unwrap_or(CONTEXT),
        eps: keys.number("norm_eps")?,
    })
}

/// Reads the window of each layer: one for all, or a few that repeat. Ministral 8B has the key that begins with `_`.
fn windows(keys: &Keys<'_>, layers: usize) -> Result<Vec<Option<usize>>, FamilyError> {
    let key = if keys.has("_sliding_window") { "_sliding_window" } else { "sliding_window" };
    let windows = keys.maybe_sizes(key)?;
    if windows.is_empty() || !layers.is_multiple_of(windows.len()) || windows.contains(&Some(0)) {
        return Err(keys.bad(key, "a whole number above 0, or a list that repeats over all layers"));
    }
    Ok(windows.into_iter().cycle().take(layers).collect())
}

fn temperature(keys: &Keys<'_>) -> Result<Option<QueryTemperature>, FamilyError> {
    let Some(scaling) = keys.below("llama_4_scaling")? else { return Ok(None) };
    let beta = scaling.number("beta")?;
    let every = scaling.size("original_max_position_embeddings")?;
    scaling.finish()?;
    Ok(Some(QueryTemperature { beta, every }))
}

fn experts(keys: &Keys<'_>, sizes: &Sizes) -> Result<Option<Mixture>, FamilyError> {
    let Some(moe) = keys.below("moe")? else { return Ok(None) };
    let count = experts::count(&moe, "num_experts", sizes.layers)?;
    let all = (count, moe.size("num_experts_per_tok")?, sizes.inner);
    moe.finish()?;
    Ok(Some(Mixture::new(ExpertNames::Mistral, sizes.layers, all)))
}

fn rope(keys: &Keys<'_>, sizes: &Sizes, is_windowed: bool) -> Result<RopeSpec, FamilyError> {
    // The first models had a window and a smaller base, and their files do not say so.
    let default = if is_windowed { 10_000.0 } else { 1_000_000.0 };
    let base = keys.maybe_number("rope_theta")?.unwrap_or(default);
    let scaling = match keys.below("yarn")? {
        Some(yarn) => RopeScaling::Yarn(scaling(&yarn)?),
        None => RopeScaling::None,
    };
    Ok(RopeSpec { base, dims: sizes.head_dim, pairing: Pairing::Interleaved, scaling })
}

fn scaling(yarn: &Keys<'_>) -> Result<YarnScaling, FamilyError> {
    let factor = yarn.number("factor")?;
    let is_scaled = yarn.flag("apply_scale", true)?;
    let scaling = YarnScaling {
        factor,
        original_tokens: yarn.size("original_max_position_embeddings")?,
        beta_fast: yarn.number("beta")?,
        beta_slow: yarn.number("alpha")?,
        attention_factor: if is_scaled { rope::yarn_multiplier(factor, 1.0) } else { 1.0 },
        truncate: true,
    };
    yarn.finish()?;
    Ok(scaling)
}
