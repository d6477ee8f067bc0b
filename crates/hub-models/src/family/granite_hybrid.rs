//! Granite 4: Mamba-2 in most layers and attention in some, under Granite's multipliers, with experts or without.

use hub_nn::spec::{
    ConvSpec, ConvolvedSpec, Gating, KeyOrder, LinearSpec, Mixer, ModelSpec, NormKind, NormSpec, RateForm,
    RecurrentSpec, Rule, TensorRef,
};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Fused, Sizes},
    experts::{self, ExpertNames, Mixture},
    granite::{plain, plain_gguf},
    keys::DefaultValue,
    names::{Names, Part},
    written,
};

/// Without experts the MLP is named as what experts share.
const DENSE: Names = Names::HUGGING_FACE
    .with(&[(Part::GateUp, "shared_mlp.input_linear"), (Part::Down, "shared_mlp.output_linear")]);

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "granite-hybrid",
    architectures: &["GraniteMoeHybridForCausalLM"],
    model_types: &["granitemoehybrid"],
    defaults: &[
        ("hidden_act", DefaultValue::Text("silu")),
        ("mamba_d_conv", DefaultValue::Whole(4)),
        ("mamba_d_state", DefaultValue::Whole(256)),
        ("mamba_expand", DefaultValue::Whole(2)),
        ("mamba_n_groups", DefaultValue::Whole(1)),
        ("mamba_n_heads", DefaultValue::Whole(128)),
        ("max_position_embeddings", DefaultValue::Whole(2_048)),
        ("num_experts_per_tok", DefaultValue::Whole(2)),
        ("num_local_experts", DefaultValue::Whole(8)),
        ("rms_norm_eps", DefaultValue::Number(1e-6)),
        ("shared_intermediate_size", DefaultValue::Whole(1_024)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "granitehybrid", read: Some(from_gguf), write: Some(written::mamba) }),
};

/// Mamba-2 as a layer has it.
struct Mamba {
    heads: usize,
    head_dim: usize,
    groups: usize,
    state: usize,
    kernel: usize,
    has_conv_bias: bool,
    has_bias: bool,
}

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let mut decoder = plain(keys)?;
    let Sizes { layers, inner, hidden, .. } = decoder.sizes;
    let shared = keys.size("shared_intermediate_size")?;
    let chosen = keys.size("num_experts_per_tok")?;
    if keys.size("num_local_experts")? > 0 {
        let all = (experts::count(keys, "num_local_experts", layers)?, chosen, inner);
        decoder.experts = Some(Mixture {
            shared: Some((shared, false)),
            ..Mixture::new(ExpertNames::Granite, layers, all)
        });
    } else {
        decoder.sizes.inner = shared;
        decoder.fused = Fused { gate_up: true, ..Fused::default() };
        decoder.names = DENSE;
    }
    match keys.text("position_embedding_type")? {
        Some("rope") => {}
        None | Some("nope") => decoder.rotate_if(|_| false),
        Some(_) => return Err(keys.unsupported("position_embedding_type", "rope or nope")),
    }
    // How many rows are computed at once, and a limit that no released model has.
    keys.skip("mamba_chunk_size");
    keys.only("time_step_limit", NO_LIMIT)?;
    let heads = keys.size("mamba_n_heads")?;
    let width = keys.size("mamba_expand")?.saturating_mul(hidden);
    let head_dim = if keys.is_text("mamba_d_head") { None } else { keys.maybe_size("mamba_d_head")? };
    let mamba = Mamba {
        heads,
        head_dim: head_dim.unwrap_or(width / heads.max(1)),
        groups: keys.size("mamba_n_groups")?,
        state: keys.size("mamba_d_state")?,
        kernel: keys.size("mamba_d_conv")?,
        has_conv_bias: keys.flag("mamba_conv_bias", true)?,
        has_bias: keys.flag("mamba_proj_bias", false)?,
    };
    let is_attention = attention_layers(keys, layers)?;
    decoder.mixers = mamba.mixers(false, &decoder.sizes, &is_attention);
    Ok(decoder.spec("granite-hybrid", files))
}

/// From nothing to infinity, as transformers 5 writes it.
const NO_LIMIT: &str = r#"[0.0,{"__float__":"Infinity"}]"#;

/// Reads which layers have attention, under the names of transformers 4 or 5.
fn attention_layers(keys: &Keys<'_>, layers: usize) -> Result<Vec<bool>, FamilyError> {
    let key = if keys.has("layer_types") { "layer_types" } else { "layers_block_type" };
    let Some(types) = keys.texts(key)? else { return Ok(vec![false; layers]) };
    keys.skip("layers_block_type");
    if types.len() != layers {
        return Err(keys.bad(key, "one entry for each of `num_hidden_layers`"));
    }
    let read = |kind: &&str| match *kind {
        "attention" | "full_attention" => Ok(true),
        "mamba" | "linear_attention" => Ok(false),
        _ => Err(keys.unsupported(key, "mamba and attention")),
    };
    types.iter().map(read).collect()
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let is_rotated = keys.flag("rope.scaling.finetuned", false)?;
    let mut decoder = plain_gguf(keys, files)?;
    let layers = decoder.sizes.layers;
    let shared = keys.maybe_size("expert_shared_feed_forward_length")?.filter(|inner| *inner > 0);
    match Mixture::from_gguf(keys, &decoder.sizes)? {
        Some(experts) => {
            decoder.experts = Some(Mixture { shared: shared.map(|inner| (inner, false)), ..experts });
        }
        None => decoder.sizes.inner = shared.unwrap_or(decoder.sizes.inner),
    }
    if !is_rotated {
        decoder.rotate_if(|_| false);
    }
    let kv_heads = keys.layered("attention.head_count_kv", layers)?.unwrap_or_default();
    let is_attention: Vec<bool> = kv_heads.iter().map(|heads| *heads > 0).collect();
    let first = is_attention.iter().position(|is_attention| !is_attention).unwrap_or(0);
    let heads = keys.size("ssm.time_step_rank")?;
    let mamba = Mamba {
        heads,
        head_dim: keys.size("ssm.inner_size")? / heads.max(1),
        groups: keys.size("ssm.group_count")?,
        state: keys.size("ssm.state_size")?,
        kernel: keys.size("ssm.conv_kernel")?,
        has_conv_bias: files.has(&format!("blk.{first}.ssm_conv1d.bias")),
        has_bias: files.has(&format!("blk.{first}.ssm_in.bias")),
    };
    decoder.mixers = mamba.mixers(true, &decoder.sizes, &is_attention);
    Ok(decoder.spec("granite-hybrid", files))
}

impl Mamba {
    /// Lays out Mamba-2, layer by layer.
    fn mixers(&self, is_gguf: bool, sizes: &Sizes, is_attention: &[bool]) -> Vec<Option<Mixer>> {
        let mamba = |layer| Mixer::Recurrent(Box::new(self.layer(layer, is_gguf, sizes)));
        let layers = is_attention.iter().enumerate();
        layers.map(|(layer, is_attention)| (!is_attention).then(|| mamba(layer))).collect()
    }

    fn layer(&self, layer: usize, is_gguf: bool, sizes: &Sizes) -> RecurrentSpec {
        let Self { heads, head_dim, groups, state, kernel, has_conv_bias, has_bias } = *self;
        let (inner, keys) = (heads.saturating_mul(head_dim), groups.saturating_mul(state));
        let name = |hugging_face: &str, gguf: &str| match is_gguf {
            true => format!("blk.{layer}.{gguf}"),
            false => format!("model.layers.{layer}.mamba.{hugging_face}"),
        };
        // Gates, values, keys, queries and steps lie in one tensor, and the middle ones pass the convolution.
        let linear = |start: usize, outputs: usize| LinearSpec {
            weight: TensorRef::rows(name("in_proj.weight", "ssm_in.weight"), start..start + outputs),
            bias: has_bias
                .then(|| TensorRef::rows(name("in_proj.bias", "ssm_in.bias"), start..start + outputs)),
            inputs: sizes.hidden,
            outputs,
        };
        let convolved = |start: usize, channels: usize| ConvolvedSpec {
            linear: linear(inner + start, channels),
            conv: ConvSpec {
                weight: TensorRef::rows(name("conv1d.weight", "ssm_conv1d.weight"), start..start + channels),
                bias: has_conv_bias.then(|| {
                    TensorRef::rows(name("conv1d.bias", "ssm_conv1d.bias"), start..start + channels)
                }),
                channels,
                kernel,
            },
        };
        // GGUF files give these vectors a second axis.
        let vector = |name: String, len: usize| TensorRef::numbers(name, 0..len);
        RecurrentSpec {
            heads,
            key_heads: groups,
            key_order: KeyOrder::Grouped,
            key_dim: state,
            value_dim: head_dim,
            query: convolved(inner + keys, keys),
            key: convolved(inner, keys),
            value: convolved(0, inner),
            gate: linear(0, inner),
            step: linear(2 * inner + 2 * keys, heads),
            step_bias: vector(name("dt_bias", "ssm_dt.bias"), heads),
            step_limits: None,
            rate: vector(name("A_log", "ssm_a"), heads),
            rate_form: if is_gguf { RateForm::Negative } else { RateForm::Log },
            rule: Rule::StateSpace { skip: vector(name("D", "ssm_d"), heads) },
            norm: NormSpec {
                kind: NormKind::Rms,
                eps: sizes.eps,
                weight: vector(name("norm.weight", "ssm_norm.weight"), inner),
                bias: None,
                weight_offset: 0.0,
            },
            gating: Gating::GateFirst { groups },
            output: LinearSpec {
                weight: TensorRef::new(name("out_proj.weight", "ssm_out.weight")),
                bias: has_bias.then(|| TensorRef::new(name("out_proj.bias", "ssm_out.bias"))),
                inputs: inner,
                outputs: sizes.hidden,
            },
        }
    }
}
