//! Qwen3.5 and 3.6 with a mixture of experts in every layer, beside a shared one.

use hub_nn::spec::ModelSpec;

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    delta_net::NetNames,
    keys::DefaultValue,
    qwen3_5::skip_further_tokens,
    qwen3_next::{finish, gguf_mixture, mixture, plain, plain_gguf},
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "qwen3.5-moe",
    architectures: &["Qwen3_5MoeForCausalLM"],
    model_types: &["qwen3_5_moe_text"],
    defaults: &[
        ("head_dim", DefaultValue::Whole(256)),
        ("hidden_act", DefaultValue::Text("silu")),
        // No layer has an MLP of this width.
        ("intermediate_size", DefaultValue::Whole(1)),
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
    gguf: Some(Gguf { architecture: "qwen35moe", read: Some(from_gguf), write: Some(written::delta_nets) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    skip_further_tokens(keys);
    let mut decoder = plain(keys, NetNames::Apart)?;
    decoder.experts = Some(mixture(keys, files, decoder.sizes.layers, true)?);
    Ok(finish(decoder, "qwen3.5-moe", files))
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let mut decoder = plain_gguf(keys, files, NetNames::Gguf)?;
    decoder.experts = Some(gguf_mixture(keys, &decoder.sizes)?);
    Ok(finish(decoder, "qwen3.5-moe", files))
}
