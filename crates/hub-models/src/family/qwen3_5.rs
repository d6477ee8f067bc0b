//! Qwen3.5 and 3.6: gated delta nets and, in every fourth layer, gated attention; the text half of models that see.

use hub_nn::spec::ModelSpec;

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    delta_net::NetNames,
    keys::DefaultValue,
    qwen3_next::{finish, plain, plain_gguf},
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "qwen3.5",
    architectures: &["Qwen3_5ForCausalLM"],
    model_types: &["qwen3_5_text"],
    defaults: &[
        ("head_dim", DefaultValue::Whole(256)),
        ("hidden_act", DefaultValue::Text("silu")),
        ("linear_conv_kernel_dim", DefaultValue::Whole(4)),
        ("linear_key_head_dim", DefaultValue::Whole(128)),
        ("linear_num_key_heads", DefaultValue::Whole(16)),
        ("linear_num_value_heads", DefaultValue::Whole(32)),
        ("linear_value_head_dim", DefaultValue::Whole(128)),
        ("max_position_embeddings", DefaultValue::Whole(32_768)),
        ("num_key_value_heads", DefaultValue::Whole(4)),
        ("partial_rotary_factor", DefaultValue::Number(0.25)),
        ("rms_norm_eps", DefaultValue::Number(1e-6)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "qwen35", read: Some(from_gguf), write: Some(written::delta_nets) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    skip_further_tokens(keys);
    Ok(finish(plain(keys, NetNames::Apart)?, "qwen3.5", files))
}

/// What the layers that guess further tokens are like, which are left out.
pub(super) fn skip_further_tokens(keys: &Keys<'_>) {
    for key in ["mtp_num_hidden_layers", "mtp_use_dedicated_embeddings"] {
        keys.skip(key);
    }
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    Ok(finish(plain_gguf(keys, files, NetNames::Gguf)?, "qwen3.5", files))
}
