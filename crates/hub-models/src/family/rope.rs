//! Rotations, from the three ways files describe them.

use hub_nn::spec::{
    Factors, Llama3Scaling, LongRope, Pairing, RopeScaling, RopeSpec, TensorRef, YarnScaling,
};

use super::{FamilyError, Files, Keys};

/// What a rotation depends on besides its own keys.
#[derive(Clone, Copy)]
pub(super) struct RopeShape {
    pub(super) head_dim: usize,
    pub(super) context_tokens: usize,
    /// The base where the files do not say.
    pub(super) default_base: f32,
}

/// Reads `rope_parameters` as `transformers` 5 writes it, or `rope_theta` and `rope_scaling` as version 4 did.
pub(super) fn from_config(keys: &Keys<'_>, shape: RopeShape) -> Result<RopeSpec, FamilyError> {
    if let Some(parameters) = keys.below("rope_parameters")? {
        keys.skip("rope_theta");
        keys.skip("rope_scaling");
        let base = parameters.maybe_number("rope_theta")?.unwrap_or(shape.default_base);
        return from_parameters(keys, &parameters, base, shape);
    }
    let base = keys.maybe_number("rope_theta")?.unwrap_or(shape.default_base);
    match keys.below("rope_scaling")? {
        Some(scaling) => from_parameters(keys, &scaling, base, shape),
        None => plain(keys, base, shape),
    }
}

/// Reads one object of parameters.
pub(super) fn from_parameters(
    keys: &Keys<'_>,
    parameters: &Keys<'_>,
    base: f32,
    shape: RopeShape,
) -> Result<RopeSpec, FamilyError> {
    let old_name = parameters.text("type")?;
    let kind = parameters.text("rope_type")?.or(old_name).unwrap_or("default");
    let original = |keys: &Keys<'_>| keys.maybe_size("original_max_position_embeddings");
    let original = original(parameters)?.or(original(keys)?);
    let share = parameters.maybe_number("partial_rotary_factor")?;
    let mut rope = plain(keys, base, shape)?;
    if let Some(share) = share {
        rope.dims = rotated(shape.head_dim, share);
    }
    rope.scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: parameters.number("factor")? },
        "dynamic" => RopeScaling::Dynamic {
            factor: parameters.number("factor")?,
            original_tokens: original.unwrap_or(shape.context_tokens),
        },
        "yarn" => RopeScaling::Yarn(yarn(parameters, original.unwrap_or(shape.context_tokens))?),
        "llama3" => RopeScaling::Llama3(Llama3Scaling {
            factor: parameters.number("factor")?,
            low_freq_factor: parameters.number("low_freq_factor")?,
            high_freq_factor: parameters.number("high_freq_factor")?,
            original_tokens: original
                .ok_or_else(|| parameters.missing("original_max_position_embeddings"))?,
        }),
        // "su" is what Phi-3's first files called it.
        "longrope" | "su" => RopeScaling::LongRope(long_rope(parameters, original, shape)?),
        _ => return Err(parameters.bad("rope_type", "default, linear, dynamic, yarn, llama3 or longrope")),
    };
    parameters.finish()?;
    Ok(rope)
}

fn plain(keys: &Keys<'_>, base: f32, shape: RopeShape) -> Result<RopeSpec, FamilyError> {
    let share = keys.maybe_number("partial_rotary_factor")?.unwrap_or(1.0);
    let dims = rotated(shape.head_dim, share);
    Ok(RopeSpec { base, dims, pairing: Pairing::Halves, scaling: RopeScaling::None })
}

fn rotated(head_dim: usize, share: f32) -> usize {
    (head_dim as f32 * share) as usize
}

fn yarn(keys: &Keys<'_>, original_tokens: usize) -> Result<YarnScaling, FamilyError> {
    let factor = keys.number("factor")?;
    let growth = |mscale: f32| if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 };
    let (mscale, all) = (keys.maybe_number("mscale")?, keys.maybe_number("mscale_all_dim")?);
    let computed = match (mscale, all) {
        (Some(mscale), Some(all)) if mscale != 0.0 && all != 0.0 => growth(mscale) / growth(all),
        _ => growth(1.0),
    };
    Ok(YarnScaling {
        factor,
        original_tokens,
        beta_fast: keys.maybe_number("beta_fast")?.unwrap_or(32.0),
        beta_slow: keys.maybe_number("beta_slow")?.unwrap_or(1.0),
        attention_factor: keys.maybe_number("attention_factor")?.unwrap_or(computed),
        truncate: keys.flag("truncate", true)?,
    })
}

fn long_rope(keys: &Keys<'_>, original: Option<usize>, shape: RopeShape) -> Result<LongRope, FamilyError> {
    let told = keys.maybe_number("factor")?;
    let original_tokens = original.unwrap_or(shape.context_tokens);
    let factor = match original {
        Some(original) => shape.context_tokens as f32 / original.max(1) as f32,
        None => told.unwrap_or(1.0),
    };
    let computed =
        if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original_tokens as f32).ln()).sqrt() };
    Ok(LongRope {
        short: Factors::Values(keys.numbers("short_factor")?),
        long: Factors::Values(keys.numbers("long_factor")?),
        original_tokens,
        attention_factor: keys.maybe_number("attention_factor")?.unwrap_or(computed),
    })
}

/// Reads the keys of GGUF metadata, and the tensors of divisors that some files carry.
pub(super) fn from_gguf(
    keys: &Keys<'_>,
    files: &Files<'_>,
    pairing: Pairing,
    shape: RopeShape,
) -> Result<RopeSpec, FamilyError> {
    let base = keys.maybe_number("rope.freq_base")?.unwrap_or(shape.default_base);
    let dims = keys.maybe_size("rope.dimension_count")?.unwrap_or(shape.head_dim);
    let original = keys.maybe_size("rope.scaling.original_context_length")?.unwrap_or(shape.context_tokens);
    let factor = keys.maybe_number("rope.scaling.factor")?;
    // Older files knew only one kind of scaling, and named its factor so.
    let linear = keys.maybe_number("rope.scale_linear")?;
    let attention = keys.maybe_number("rope.scaling.attn_factor")?.unwrap_or(1.0);
    keys.skip("rope.scaling.finetuned");
    let kind = keys.text("rope.scaling.type")?;
    let scaling = if files.has("rope_factors_long.weight") {
        RopeScaling::LongRope(LongRope {
            short: Factors::Tensor(TensorRef::new("rope_factors_short.weight")),
            long: Factors::Tensor(TensorRef::new("rope_factors_long.weight")),
            original_tokens: original,
            attention_factor: attention,
        })
    } else if files.has("rope_freqs.weight") {
        RopeScaling::Factors(Factors::Tensor(TensorRef::new("rope_freqs.weight")))
    } else {
        match (kind, factor.or(linear)) {
            (Some("none"), _) | (None, None | Some(1.0)) => RopeScaling::None,
            (Some("linear") | None, Some(factor)) => RopeScaling::Linear { factor },
            (Some("yarn"), Some(factor)) => RopeScaling::Yarn(YarnScaling {
                factor,
                original_tokens: original,
                beta_fast: keys.maybe_number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: keys.maybe_number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                attention_factor: attention * (0.1 * factor.ln() + 1.0),
                truncate: true,
            }),
            (Some(_), None) => return Err(keys.missing("rope.scaling.factor")),
            (Some(_), Some(_)) => return Err(keys.bad("rope.scaling.type", "none, linear or yarn")),
        }
    };
    Ok(RopeSpec { base, dims, pairing, scaling })
}
