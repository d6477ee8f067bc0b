//! Qwen3 MoE: as Qwen3, with a mixture of experts in all layers or some.

use hub_nn::spec::{ModelSpec, NormScope};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::Biases,
    experts::{self, ExpertNames, Mixture},
    keys::DefaultValue,
    qwen2::{plain, plain_gguf},
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "qwen3-moe",
    architectures: &["Qwen3MoeForCausalLM"],
    model_types: &["qwen3_moe"],
    defaults: &[
        ("decoder_sparse_step", DefaultValue::Whole(1)),
        ("hidden_act", DefaultValue::Text("silu")),
        ("max_position_embeddings", DefaultValue::Whole(32_768)),
        ("max_window_layers", DefaultValue::Whole(28)),
        ("moe_intermediate_size", DefaultValue::Whole(768)),
        ("num_experts", DefaultValue::Whole(128)),
        ("num_experts_per_tok", DefaultValue::Whole(8)),
        ("num_key_value_heads", DefaultValue::Whole(4)),
        ("rms_norm_eps", DefaultValue::Number(1e-6)),
        ("sliding_window", DefaultValue::Whole(4_096)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "qwen3moe", read: Some(from_gguf), write: Some(written::plain) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let mut decoder = plain(keys)?;
    let attention = keys.flag("attention_bias", false)?;
    decoder.biases = Biases::of_attention(attention);
    decoder.head_norms = Some(NormScope::Head);
    let layers = decoder.sizes.layers;
    let count = experts::count_under(keys, "num_experts", layers)?;
    let all = (count, keys.size("num_experts_per_tok")?, keys.size("moe_intermediate_size")?);
    let step = keys.size("decoder_sparse_step")?.max(1);
    let dense = keys.sizes("mlp_only_layers")?;
    let has_experts = |layer: usize| !dense.contains(&layer) && (layer + 1).is_multiple_of(step);
    decoder.experts = Some(Mixture {
        layers: (0..layers).map(has_experts).collect(),
        is_normalized: keys.flag("norm_topk_prob", false)?,
        ..Mixture::new(ExpertNames::Each, layers, all)
    });
    Ok(decoder.spec("qwen3-moe", files))
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let mut decoder = plain_gguf(keys, files)?;
    decoder.head_norms = Some(NormScope::Head);
    decoder.experts = Mixture::from_gguf(keys, &decoder.sizes)?;
    Ok(decoder.spec("qwen3-moe", files))
}
