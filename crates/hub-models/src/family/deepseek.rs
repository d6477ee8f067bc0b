//! DeepSeek V2 and V3, and GLM-4.7-Flash: latent attention, and a mixture of experts beside shared ones in all layers but
//! the first.

use hub_nn::spec::{
    GroupsSpec, KeyForm, LatentSpec, LinearSpec, Mixer, ModelSpec, NormKind, NormSpec, Pairing, RopeScaling,
    RopeSpec, Scoring, TensorRef,
};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Decoder, Sizes, activation, layers},
    experts::{self, ExpertNames, Mixture},
    keys::DefaultValue,
    names::Names,
    qwen3_next::finish,
    rope::{self, RopeShape},
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "deepseek",
    architectures: &["DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "Glm4MoeLiteForCausalLM"],
    model_types: &["deepseek_v2", "deepseek_v3", "glm4_moe_lite"],
    defaults: &[
        ("hidden_act", DefaultValue::Text("silu")),
        ("max_position_embeddings", DefaultValue::Whole(2_048)),
        ("rms_norm_eps", DefaultValue::Number(1e-6)),
        ("routed_scaling_factor", DefaultValue::Number(1.0)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "deepseek2", read: Some(from_gguf), write: Some(written::latent) }),
};

/// Of the norms of what queries, and keys and values, are made of: no file says it, and `transformers` takes its default.
const LATENT_EPS: f32 = 1e-6;

/// The most heads of all layers together that are laid out; far above any real model.
const MAX_HEADS: usize = 1 << 20;

/// Reads a number of heads, before anything is laid out for each.
fn checked_heads(keys: &Keys<'_>, key: &str, sizes: &Sizes) -> Result<usize, FamilyError> {
    match sizes.heads.saturating_mul(sizes.layers) {
        1..=MAX_HEADS => Ok(sizes.heads),
        _ => Err(keys.bad(key, "at least one, and at most 2^20 in all layers")),
    }
}

/// Latent attention as a layer has it.
struct Latents {
    is_gguf: bool,
    heads: usize,
    rank: usize,
    query_rank: Option<usize>,
    nope_dim: usize,
    rope_dim: usize,
    value_dim: usize,
    has_bias: bool,
    /// Whether what keys and values are made with lies in one tensor.
    is_fused: bool,
    rope: RopeSpec,
    scale: f32,
}

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let is_v2 = files.architecture == "DeepseekV2ForCausalLM";
    let sizes = Sizes::from_config(keys)?;
    // What follows from other keys, and how many layers guess further tokens.
    [
        "head_dim",
        "qk_head_dim",
        "num_nextn_predict_layers",
        "ep_size",
        "seq_aux",
        "aux_loss_alpha",
        "moe_layer_freq",
    ]
    .into_iter()
    .for_each(|key| keys.skip(key));
    keys.only("mlp_bias", "false")?;
    let (nope_dim, rope_dim) = (keys.size("qk_nope_head_dim")?, keys.size("qk_rope_head_dim")?);
    let mut rope = rope::from_config(keys, RopeShape { head_dim: rope_dim, ..RopeShape::of(&sizes) })?;
    let is_interleaved = is_v2 || keys.flag("rope_interleave", true)?;
    rope.pairing = if is_interleaved { Pairing::Interleaved } else { Pairing::Halves };
    let scale = 1.0 / ((nope_dim + rope_dim) as f32).sqrt() * stretch(keys, &rope)?;
    let latents = Latents {
        is_gguf: false,
        heads: checked_heads(keys, "num_attention_heads", &sizes)?,
        rank: keys.size("kv_lora_rank")?,
        query_rank: keys.maybe_size("q_lora_rank")?,
        nope_dim,
        rope_dim,
        value_dim: keys.size("v_head_dim")?,
        has_bias: keys.flag("attention_bias", false)?,
        is_fused: true,
        rope: rope.clone(),
        scale,
    };
    let experts = mixture(keys, &sizes, is_v2)?;
    let decoder = Decoder {
        mixers: latents.mixers(&sizes),
        activation: activation(keys, "hidden_act")?,
        experts: Some(experts),
        is_tied: keys.flag("tie_word_embeddings", false)?,
        ..Decoder::new(Names::HUGGING_FACE, sizes, None, rope)
    };
    Ok(finish(decoder, "deepseek", files))
}

/// Returns what scores are multiplied with where YaRN stretches positions; it lies beside what the rotation reads.
fn stretch(keys: &Keys<'_>, rope: &RopeSpec) -> Result<f32, FamilyError> {
    let RopeScaling::Yarn(yarn) = &rope.scaling else { return Ok(1.0) };
    for key in ["rope_parameters", "rope_scaling"] {
        if let Some(parameters) = keys.below(key)? {
            let weight = parameters.maybe_number("mscale_all_dim")?;
            return Ok(weight.map_or(1.0, |weight| rope::yarn_multiplier(yarn.factor, weight).powi(2)));
        }
    }
    Ok(1.0)
}

fn mixture(keys: &Keys<'_>, sizes: &Sizes, is_v2: bool) -> Result<Mixture, FamilyError> {
    let count = experts::count_under(keys, "n_routed_experts", sizes.layers)?;
    let inner = keys.size("moe_intermediate_size")?;
    let all = (count, keys.size("num_experts_per_tok")?, inner);
    let groups = keys.maybe_size("n_group")?.unwrap_or(1);
    let chosen_groups = keys.maybe_size("topk_group")?.unwrap_or(1);
    let has_groups = match keys.text("topk_method")? {
        None | Some("noaux_tc") => !is_v2,
        Some("group_limited_greedy") => is_v2,
        Some("greedy") => false,
        Some(_) => return Err(keys.unsupported("topk_method", "greedy, group_limited_greedy or noaux_tc")),
    };
    keys.only("scoring_func", if is_v2 { "softmax" } else { "sigmoid" })?;
    let is_normalized = keys.flag("norm_topk_prob", !is_v2)?;
    let shared = keys.maybe_size("n_shared_experts")?.unwrap_or(0);
    Ok(Mixture {
        layers: sparse_layers(keys, sizes.layers)?,
        scoring: if is_v2 { Scoring::Softmax } else { Scoring::Sigmoid },
        has_correction: !is_v2,
        groups: (has_groups && groups > 1).then_some(GroupsSpec {
            count: groups,
            chosen: chosen_groups,
            best: if is_v2 { 1 } else { 2 },
        }),
        // transformers never divides by the sum here.
        is_normalized: is_normalized && !is_v2,
        scale: keys.number("routed_scaling_factor")?,
        shared: (shared > 0).then_some((shared * inner, false)),
        ..Mixture::new(ExpertNames::Deepseek, sizes.layers, all)
    })
}

/// Reads which layers have experts.
fn sparse_layers(keys: &Keys<'_>, layers: usize) -> Result<Vec<bool>, FamilyError> {
    let dense = keys.maybe_size("first_k_dense_replace")?;
    let Some(types) = keys.texts("mlp_layer_types")? else {
        let dense = dense.unwrap_or(0);
        return Ok((0..layers).map(|layer| layer >= dense).collect());
    };
    if types.len() != layers {
        return Err(keys.bad("mlp_layer_types", "one entry for each of `num_hidden_layers`"));
    }
    let read = |kind: &&str| match *kind {
        "sparse" => Ok(true),
        "dense" => Ok(false),
        _ => Err(keys.unsupported("mlp_layer_types", "sparse and dense")),
    };
    types.iter().map(read).collect()
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = gguf_sizes(keys, files)?;
    let rank = keys.size("attention.kv_lora_rank")?;
    // Files before 2025 hold the heads as they are, later ones as they look at the latent rows.
    let (key, value) = (keys.size("attention.key_length")?, keys.size("attention.value_length")?);
    let key = keys.maybe_size("attention.key_length_mla")?.unwrap_or(key);
    let value_dim = keys.maybe_size("attention.value_length_mla")?.unwrap_or(value);
    let rope_dim = keys.size("rope.dimension_count")?;
    let shape = RopeShape { head_dim: rope_dim, ..RopeShape::of(&sizes) };
    let mut rope = rope::from_gguf(keys, files, Pairing::Interleaved, shape)?;
    let mut scale = 1.0 / (key as f32).sqrt();
    let log_multiplier = keys.maybe_number("rope.scaling.yarn_log_multiplier")?;
    if let RopeScaling::Yarn(yarn) = &mut rope.scaling {
        let multiplier = log_multiplier.map_or(1.0, |multiplier| 1.0 + multiplier * yarn.factor.ln());
        scale *= multiplier * multiplier;
        // Both multipliers of released models are the same, and cancel out of the rotation.
        yarn.attention_factor = 1.0;
    }
    let latents = Latents {
        is_gguf: true,
        heads: checked_heads(keys, "attention.head_count", &sizes)?,
        rank,
        query_rank: keys.maybe_size("attention.q_lora_rank")?,
        nope_dim: key
            .checked_sub(rope_dim)
            .ok_or_else(|| keys.bad("attention.key_length", "over the rotated part"))?,
        rope_dim,
        value_dim,
        has_bias: files.has("blk.0.attn_kv_a_mqa.bias"),
        is_fused: files.has("blk.0.attn_kv_b.weight"),
        rope: rope.clone(),
        scale,
    };
    let decoder = Decoder {
        mixers: latents.mixers(&sizes),
        experts: gguf_mixture(keys, files, &sizes)?,
        is_tied: !files.has(Names::GGUF.head()),
        ..Decoder::new(Names::GGUF, sizes, None, rope)
    };
    Ok(finish(decoder, "deepseek", files))
}

/// Reads the sizes, of which the heads' are read elsewhere.
fn gguf_sizes(keys: &Keys<'_>, files: &Files<'_>) -> Result<Sizes, FamilyError> {
    keys.skip("vocab_size");
    let table = Names::GGUF.table();
    let heads = keys.size("attention.head_count")?;
    keys.skip("attention.head_count_kv");
    let later = keys.maybe_size("nextn_predict_layers")?.unwrap_or(0);
    Ok(Sizes {
        hidden: keys.size("embedding_length")?,
        inner: keys.size("feed_forward_length")?,
        layers: layers(keys, "block_count")?.saturating_sub(later),
        heads,
        kv_heads: heads,
        head_dim: 1,
        vocab: files.rows(table).ok_or_else(|| keys.missing(table))?,
        context: keys.size("context_length")?,
        eps: keys.number("attention.layer_norm_rms_epsilon")?,
    })
}

fn gguf_mixture(keys: &Keys<'_>, files: &Files<'_>, sizes: &Sizes) -> Result<Option<Mixture>, FamilyError> {
    // The files tell better than a number that some converters do not know.
    keys.skip("leading_dense_block_count");
    let has_experts = |layer: usize| files.has(&format!("blk.{layer}.ffn_gate_inp.weight"));
    let layers: Vec<bool> = (0..sizes.layers).map(has_experts).collect();
    let first = layers.iter().position(|has| *has).unwrap_or(0);
    let shared = keys.maybe_size("expert_shared_count")?.unwrap_or(0);
    let scale = keys.maybe_number("expert_weights_scale")?.unwrap_or(1.0);
    let has_correction = files.has(&format!("blk.{first}.exp_probs_b.bias"));
    let scoring = match keys.maybe_size("expert_gating_func")? {
        Some(2) => Scoring::Sigmoid,
        Some(1) => Scoring::Softmax,
        None if has_correction => Scoring::Sigmoid,
        None => Scoring::Softmax,
        Some(_) => return Err(keys.unsupported("expert_gating_func", "1 (softmax) or 2 (sigmoid)")),
    };
    let groups = keys.maybe_size("expert_group_count")?.unwrap_or(1);
    let chosen = keys.maybe_size("expert_group_used_count")?.unwrap_or(1);
    let is_normalized = keys.flag("expert_weights_norm", false)?;
    let Some(experts) = Mixture::from_gguf(keys, sizes)? else { return Ok(None) };
    Ok(Some(Mixture {
        layers,
        scoring,
        has_correction,
        groups: (groups > 1).then_some(GroupsSpec {
            count: groups,
            chosen,
            best: if scoring == Scoring::Softmax { 1 } else { 2 },
        }),
        is_normalized,
        scale,
        shared: (shared > 0).then_some((shared * experts.inner, false)),
        ..experts
    }))
}

impl Latents {
    fn mixers(&self, sizes: &Sizes) -> Vec<Option<Mixer>> {
        let layer = |layer| Some(Mixer::Latent(Box::new(self.layer(layer, sizes.hidden))));
        (0..sizes.layers).map(layer).collect()
    }

    fn layer(&self, layer: usize, hidden: usize) -> LatentSpec {
        let &Self { heads, rank, nope_dim, rope_dim, value_dim, has_bias, .. } = self;
        let name = |hugging_face: &str, gguf: &str, kind: &str| match self.is_gguf {
            true => format!("blk.{layer}.{gguf}.{kind}"),
            false => format!("model.layers.{layer}.self_attn.{hugging_face}.{kind}"),
        };
        let linear = |names: (&str, &str), inputs, outputs, is_biased: bool| LinearSpec {
            weight: TensorRef::new(name(names.0, names.1, "weight")),
            bias: is_biased.then(|| TensorRef::new(name(names.0, names.1, "bias"))),
            inputs,
            outputs,
        };
        let norm = |names: (&str, &str)| NormSpec {
            kind: NormKind::Rms,
            eps: LATENT_EPS,
            weight: TensorRef::new(name(names.0, names.1, "weight")),
            bias: None,
            weight_offset: 0.0,
        };
        // The latent row and the rotated part lie in one tensor.
        let both = |start: usize, outputs: usize| {
            let part = |kind| {
                TensorRef::rows(name("kv_a_proj_with_mqa", "attn_kv_a_mqa", kind), start..start + outputs)
            };
            LinearSpec {
                weight: part("weight"),
                bias: has_bias.then(|| part("bias")),
                inputs: hidden,
                outputs,
            }
        };
        let queries = heads.saturating_mul(nope_dim + rope_dim);
        let latent = |rank| {
            (
                linear(("q_a_proj", "attn_q_a"), hidden, rank, has_bias),
                norm(("q_a_layernorm", "attn_q_a_norm")),
            )
        };
        let query = match self.query_rank {
            Some(rank) => linear(("q_b_proj", "attn_q_b"), rank, queries, false),
            None => linear(("q_proj", "attn_q"), hidden, queries, false),
        };
        let each = nope_dim + value_dim;
        let fused = name("kv_b_proj", "attn_kv_b", "weight");
        let rows = |name: &str, start: usize, len: usize| TensorRef::rows(name, start..start + len);
        let head = |head: usize| match self.is_fused {
            true => (rows(&fused, head * each, nope_dim), rows(&fused, head * each + nope_dim, value_dim)),
            false => (
                rows(&name("", "attn_k_b", "weight"), head * rank, rank),
                rows(&name("", "attn_v_b", "weight"), head * value_dim, value_dim),
            ),
        };
        let (key, value) = (0..heads).map(head).unzip();
        LatentSpec {
            heads,
            rank,
            nope_dim,
            rope_dim,
            value_dim,
            query_latent: self.query_rank.map(latent),
            query,
            latent: both(0, rank),
            latent_norm: norm(("kv_a_layernorm", "attn_kv_a_norm")),
            key_rope: both(rank, rope_dim),
            key,
            key_form: if self.is_fused { KeyForm::Key } else { KeyForm::Query },
            value,
            output: linear(("o_proj", "attn_output"), heads.saturating_mul(value_dim), hidden, has_bias),
            rope: self.rope.clone(),
            scale: self.scale,
        }
    }
}
