//! Qwen3-Next: gated delta nets, gated attention in every fourth layer, and a mixture of experts beside a shared one.

use hub_nn::spec::{ModelSpec, NormScope, Pairing};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Biases, Decoder, Sizes, activation},
    delta_net::{DeltaNet, NetNames},
    experts::{self, ExpertNames, Mixture},
    keys::DefaultValue,
    names::Names,
    rope::{self, RopeShape},
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "qwen3-next",
    architectures: &["Qwen3NextForCausalLM"],
    model_types: &["qwen3_next"],
    defaults: &[
        ("decoder_sparse_step", DefaultValue::Whole(1)),
        ("head_dim", DefaultValue::Whole(256)),
        ("hidden_act", DefaultValue::Text("silu")),
        ("linear_conv_kernel_dim", DefaultValue::Whole(4)),
        ("linear_key_head_dim", DefaultValue::Whole(128)),
        ("linear_num_key_heads", DefaultValue::Whole(16)),
        ("linear_num_value_heads", DefaultValue::Whole(32)),
        ("linear_value_head_dim", DefaultValue::Whole(128)),
        ("max_position_embeddings", DefaultValue::Whole(32_768)),
        ("num_key_value_heads", DefaultValue::Whole(2)),
        ("partial_rotary_factor", DefaultValue::Number(0.25)),
        ("rms_norm_eps", DefaultValue::Number(1e-6)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "qwen3next", read: Some(from_gguf), write: Some(written::delta_nets) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let mut decoder = plain(keys, NetNames::Interleaved)?;
    let step = keys.size("decoder_sparse_step")?.max(1);
    let dense = keys.sizes("mlp_only_layers")?;
    let mut experts = mixture(keys, files, decoder.sizes.layers, keys.flag("norm_topk_prob", true)?)?;
    let has_experts = |layer: usize| !dense.contains(&layer) && (layer + 1).is_multiple_of(step);
    experts.layers = (0..decoder.sizes.layers).map(has_experts).collect();
    decoder.experts = Some(experts);
    Ok(finish(decoder, "qwen3-next", files))
}

/// Reads what Qwen3-Next and Qwen3.5 have in common.
pub(super) fn plain(keys: &Keys<'_>, names: NetNames) -> Result<Decoder, FamilyError> {
    // Mixtures do not always say the width of an MLP that they do not have.
    let sizes = Sizes::from_config(keys)?;
    let rope = rope::from_config(keys, RopeShape::of(&sizes))?;
    let has_bias = keys.flag("attention_bias", false)?;
    Ok(Decoder {
        mixers: DeltaNet::from_config(keys, sizes.layers)?.mixers(names, &sizes),
        activation: activation(keys, "hidden_act")?,
        biases: Biases::of_attention(has_bias),
        is_tied: keys.flag("tie_word_embeddings", false)?,
        norm_offset: 1.0,
        ..gated(Decoder::new(Names::HUGGING_FACE, sizes, None, rope))
    })
}

/// Reads the mixture.
pub(super) fn mixture(
    keys: &Keys<'_>,
    files: &Files<'_>,
    layers: usize,
    is_normalized: bool,
) -> Result<Mixture, FamilyError> {
    let count = experts::count_under(keys, "num_experts", layers)?;
    let all = (count, keys.size("num_experts_per_tok")?, keys.size("moe_intermediate_size")?);
    let is_fused = files.has("model.layers.0.mlp.experts.gate_up_proj");
    Ok(Mixture {
        is_normalized,
        shared: Some((keys.size("shared_expert_intermediate_size")?, true)),
        ..Mixture::new(if is_fused { ExpertNames::Fused } else { ExpertNames::Each }, layers, all)
    })
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let mut decoder = plain_gguf(keys, files, NetNames::GgufInterleaved)?;
    decoder.experts = Some(gguf_mixture(keys, &decoder.sizes)?);
    Ok(finish(decoder, "qwen3-next", files))
}

/// Reads what the GGUF files of Qwen3-Next and Qwen3.5 have in common.
pub(super) fn plain_gguf(
    keys: &Keys<'_>,
    files: &Files<'_>,
    names: NetNames,
) -> Result<Decoder, FamilyError> {
    let mut sizes = Sizes::from_gguf(keys, files)?;
    // Layers that guess further tokens come last.
    sizes.layers = sizes.layers.saturating_sub(keys.maybe_size("nextn_predict_layers")?.unwrap_or(0));
    // Positions of text are the same in all sections.
    keys.skip("rope.dimension_sections");
    let rope = rope::from_gguf(keys, files, Pairing::Halves, RopeShape::of(&sizes))?;
    Ok(Decoder {
        mixers: DeltaNet::from_gguf(keys, sizes.layers)?.mixers(names, &sizes),
        is_tied: !files.has(Names::GGUF.head()),
        ..gated(Decoder::new(Names::GGUF_AFTER, sizes, None, rope))
    })
}

/// Reads the mixture of a GGUF file.
pub(super) fn gguf_mixture(keys: &Keys<'_>, sizes: &Sizes) -> Result<Mixture, FamilyError> {
    let experts = Mixture::from_gguf(keys, sizes)?.ok_or_else(|| keys.missing("expert_count"))?;
    Ok(Mixture { shared: Some((keys.size("expert_shared_feed_forward_length")?, true)), ..experts })
}

fn gated(decoder: Decoder) -> Decoder {
    Decoder { head_norms: Some(NormScope::Head), is_attention_gated: true, ..decoder }
}

/// Lays out every layer, and leaves out those that guess further tokens.
pub(super) fn finish(decoder: Decoder, family: &'static str, files: &Files<'_>) -> ModelSpec {
    let layers = decoder.sizes.layers;
    let mut spec = decoder.spec(family, files);
    let is_later = |name: &str| {
        let known =
            ["blk.", "model.layers."].iter().find_map(|prefix| Some((prefix, name.strip_prefix(prefix)?)));
        let layer =
            known.and_then(|(prefix, rest)| Some((prefix, rest.split('.').next()?.parse::<usize>().ok()?)));
        // Only what such a layer begins with tells it from one that the configuration does not count.
        let begins = |prefix: &str, layer: usize| {
            let part = if prefix == "blk." { "nextn.eh_proj" } else { "eh_proj" };
            files.has(&format!("{prefix}{layer}.{part}.weight"))
        };
        let is_layer = layer.is_some_and(|(prefix, layer)| layer >= layers && begins(prefix, layer));
        name.starts_with("mtp.") || is_layer
    };
    spec.left_out.extend(files.left_out("guesses further tokens", is_later));
    spec
}
