//! Rotations, from the three ways files describe them.

use hub_nn::spec::{
    Factors, Llama3Scaling, LongRope, Pairing, RopeScaling, RopeSpec, TensorRef, YarnScaling,
};

use super::{FamilyError, Files, Keys, decoder::Sizes};

/// The widest head whose pairs are listed; far above any real model.
const MAX_HEAD_DIM: usize = 1 << 16;

/// What a rotation depends on besides its own keys.
#[derive(Clone, Copy)]
pub(super) struct RopeShape {
    pub(super) head_dim: usize,
    pub(super) context_tokens: usize,
    /// The base where the files do not say.
    pub(super) default_base: f32,
}

impl RopeShape {
    /// The shape most families have.
    pub(super) fn of(sizes: &Sizes) -> Self {
        Self { head_dim: sizes.head_dim, context_tokens: sizes.context, default_base: 10_000.0 }
    }
}

/// Reads `rope_parameters` as `transformers` 5 writes it, or `rope_theta` and `rope_scaling` as version 4 did.
pub(super) fn from_config(keys: &Keys<'_>, shape: RopeShape) -> Result<RopeSpec, FamilyError> {
    let base = keys.maybe_number("rope_theta")?.unwrap_or(shape.default_base);
    match (keys.below("rope_parameters")?, keys.below("rope_scaling")?) {
        (Some(_), Some(_)) => Err(keys.bad("rope_scaling", "nothing beside `rope_parameters`")),
        (Some(parameters), None) | (None, Some(parameters)) => {
            from_parameters(keys, &parameters, base, shape)
        }
        (None, None) => plain(keys, base, shape),
    }
}

/// Reads the rotations of layers that see all and of those with a window: `rope_parameters` by type of layer, as
/// `transformers` 5 writes it; or the keys of version 4, whose scaling is that of the first kind alone.
pub(super) fn by_layer_type(
    keys: &Keys<'_>,
    shape: RopeShape,
    local_base: f32,
) -> Result<(RopeSpec, RopeSpec), FamilyError> {
    let Some(both) = keys.below("rope_parameters")? else {
        let global = from_config(keys, shape)?;
        let local = RopeSpec { base: local_base, scaling: RopeScaling::None, ..global.clone() };
        return Ok((global, local));
    };
    if keys.has("rope_scaling") {
        return Err(keys.bad("rope_scaling", "nothing beside `rope_parameters`"));
    }
    let global_base = keys.maybe_number("rope_theta")?.unwrap_or(shape.default_base);
    let one = |name: &str, base: f32| {
        let parameters = both.below(name)?.ok_or_else(|| both.missing(name))?;
        from_parameters(keys, &parameters, base, shape)
    };
    let ropes = (one("full_attention", global_base)?, one("sliding_attention", local_base)?);
    both.finish()?;
    Ok(ropes)
}

/// Reads one object of parameters; `base` counts if it has none of its own.
pub(super) fn from_parameters(
    keys: &Keys<'_>,
    parameters: &Keys<'_>,
    base: f32,
    shape: RopeShape,
) -> Result<RopeSpec, FamilyError> {
    let base = parameters.maybe_number("rope_theta")?.unwrap_or(base);
    let mut rope = plain(keys, base, shape)?;
    if let Some(share) = parameters.maybe_number("partial_rotary_factor")? {
        rope.dims = rotated(shape.head_dim, share);
    }
    let own_original = parameters.maybe_size("original_max_position_embeddings")?;
    // Phi-3 keeps it outside, and there it counts more.
    let original = keys.maybe_size("original_max_position_embeddings")?.or(own_original);
    let original = original.unwrap_or(shape.context_tokens);
    // Positions of text are the same in all sections of a head.
    ["mrope_section", "mrope_interleaved"].into_iter().for_each(|key| parameters.skip(key));
    let (old_name, name) = (parameters.text("type")?, parameters.text("rope_type")?);
    rope.scaling = match name.or(old_name).unwrap_or("default") {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: parameters.number("factor")? },
        "dynamic" if own_original.is_some_and(|own| own != shape.context_tokens) => {
            return Err(parameters.bad("original_max_position_embeddings", "`max_position_embeddings`"));
        }
        "dynamic" => RopeScaling::Dynamic {
            factor: parameters.number("factor")?,
            original_tokens: shape.context_tokens,
        },
        // Phi-3's first files called LongRoPE so; no other kind has such lists.
        "yarn" | "su" | "longrope" if parameters.has("long_factor") => {
            RopeScaling::LongRope(long_rope(parameters, original, shape)?)
        }
        "longrope" | "su" => return Err(parameters.missing("long_factor")),
        "yarn" => RopeScaling::Yarn(yarn(parameters, original, shape)?),
        "llama3" => RopeScaling::Llama3(Llama3Scaling {
            factor: parameters.number("factor")?,
            low_freq_factor: parameters.number("low_freq_factor")?,
            high_freq_factor: parameters.number("high_freq_factor")?,
            original_tokens: original,
        }),
        "proportional" => {
            let share = rope.dims as f32 / shape.head_dim as f32;
            let proportional = proportional(keys, base, shape.head_dim, share)?;
            rope.dims = proportional.dims;
            proportional.scaling
        }
        _ => {
            let key = if name.is_some() { "rope_type" } else { "type" };
            return Err(parameters
                .unsupported(key, "default, linear, dynamic, yarn, llama3, longrope or proportional"));
        }
    };
    parameters.finish()?;
    Ok(rope)
}

/// Returns a rotation of a head's fastest pairs, by the angles they have where all turn (Gemma 4).
pub(super) fn proportional(
    keys: &Keys<'_>,
    base: f32,
    head_dim: usize,
    share: f32,
) -> Result<RopeSpec, FamilyError> {
    if head_dim > MAX_HEAD_DIM {
        return Err(keys.bad("head_dim", "at most 65536"));
    }
    let (pairs, turned) = (head_dim / 2, (head_dim as f32 * share) as usize / 2);
    // As llama.cpp writes that a pair stays.
    let divisor = |pair: usize| if pair < turned { 1.0 } else { 1e30 };
    let scaling = match turned < pairs {
        true => RopeScaling::Factors(Factors::Values((0..pairs).map(divisor).collect())),
        false => RopeScaling::None,
    };
    Ok(RopeSpec { base, dims: 2 * pairs, pairing: Pairing::Halves, scaling })
}

/// Returns the longest sequence a rotation was made for, where files name the context before it was stretched.
pub(super) fn stretched(context_tokens: usize, rope: &RopeSpec) -> usize {
    match &rope.scaling {
        RopeScaling::Dynamic { factor, .. } => (context_tokens as f32 * factor) as usize,
        RopeScaling::Yarn(yarn) => context_tokens.max((yarn.original_tokens as f32 * yarn.factor) as usize),
        _ => context_tokens,
    }
}

fn plain(keys: &Keys<'_>, base: f32, shape: RopeShape) -> Result<RopeSpec, FamilyError> {
    let share = keys.maybe_number("partial_rotary_factor")?.unwrap_or(1.0);
    let dims = rotated(shape.head_dim, share);
    Ok(RopeSpec { base, dims, pairing: Pairing::Halves, scaling: RopeScaling::None })
}

fn rotated(head_dim: usize, share: f32) -> usize {
    (head_dim as f32 * share) as usize
}

fn yarn(keys: &Keys<'_>, original_tokens: usize, shape: RopeShape) -> Result<YarnScaling, FamilyError> {
    let factor = keys.maybe_number("factor")?.unwrap_or(growth(shape, original_tokens));
    let computed = match (keys.maybe_number("mscale")?, keys.maybe_number("mscale_all_dim")?) {
        (Some(mscale), Some(all)) => yarn_multiplier(factor, mscale) / yarn_multiplier(factor, all),
        _ => yarn_multiplier(factor, 1.0),
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

/// YaRN's multiplier of cosine and sine. Source: Peng et al. 2023, <https://arxiv.org/abs/2309.00071>, section 3.4.
pub(super) fn yarn_multiplier(factor: f32, weight: f32) -> f32 {
    if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 }
}

fn long_rope(keys: &Keys<'_>, original_tokens: usize, shape: RopeShape) -> Result<LongRope, FamilyError> {
    let factor = keys.maybe_number("factor")?.unwrap_or(growth(shape, original_tokens));
    let computed =
        if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original_tokens as f32).ln()).sqrt() };
    Ok(LongRope {
        short: Factors::Values(keys.numbers("short_factor")?),
        long: Factors::Values(keys.numbers("long_factor")?),
        original_tokens,
        attention_factor: keys.maybe_number("attention_factor")?.unwrap_or(computed),
    })
}

/// How many times longer the context is than the one the model was trained on.
fn growth(shape: RopeShape, original_tokens: usize) -> f32 {
    shape.context_tokens as f32 / original_tokens.max(1) as f32
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
    let original_tokens =
        keys.maybe_size("rope.scaling.original_context_length")?.unwrap_or(shape.context_tokens);
    // Older files knew only one kind of scaling, and named its factor so.
    let linear = keys.maybe_number("rope.scale_linear")?;
    let factor = keys.maybe_number("rope.scaling.factor")?.or(linear);
    let attention_factor = keys.maybe_number("rope.scaling.attn_factor")?.unwrap_or(1.0);
    keys.skip("rope.scaling.finetuned");
    let is_whole = matches!(factor, None | Some(1.0));
    let has_divisors = files.has("rope_freqs.weight");
    let scaling = match keys.text("rope.scaling.type")? {
        None | Some("none" | "longrope") if is_whole && files.has("rope_factors_long.weight") => {
            RopeScaling::LongRope(LongRope {
                short: Factors::Tensor(TensorRef::new("rope_factors_short.weight")),
                long: Factors::Tensor(TensorRef::new("rope_factors_long.weight")),
                original_tokens,
                attention_factor,
            })
        }
        None | Some("none" | "linear") if is_whole && has_divisors => {
            RopeScaling::Factors(Factors::Tensor(TensorRef::new("rope_freqs.weight")))
        }
        _ if has_divisors => {
            return Err(keys
                .unsupported("rope.scaling.type", "no scaling beside the divisors of `rope_freqs.weight`"));
        }
        Some("none") => RopeScaling::None,
        None | Some("linear") if is_whole => RopeScaling::None,
        None | Some("linear") => RopeScaling::Linear { factor: factor.unwrap_or(1.0) },
        Some("yarn") => {
            let factor = factor.ok_or_else(|| keys.missing("rope.scaling.factor"))?;
            RopeScaling::Yarn(gguf_yarn(keys, factor, original_tokens, attention_factor)?)
        }
        Some(_) => return Err(keys.unsupported("rope.scaling.type", "none, linear or yarn")),
    };
    Ok(RopeSpec { base, dims, pairing, scaling })
}

fn gguf_yarn(
    keys: &Keys<'_>,
    factor: f32,
    original_tokens: usize,
    attention_factor: f32,
) -> Result<YarnScaling, FamilyError> {
    keys.only("rope.scaling.yarn_ext_factor", "1")?;
    let told = keys.maybe_number("rope.scaling.yarn_attn_factor")?;
    Ok(YarnScaling {
        factor,
        original_tokens,
        beta_fast: keys.maybe_number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
        beta_slow: keys.maybe_number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
        attention_factor: attention_factor * told.unwrap_or(yarn_multiplier(factor, 1.0)),
        truncate: true,
    })
}
