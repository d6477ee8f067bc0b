//! Qwen3 (dense): as Qwen2, with a norm on each query and key head and, as a rule, no biases.

use hub_nn::spec::ModelSpec;

use super::{
    FamilyError, FamilySpec, Files, Keys,
    decoder::Biases,
    qwen2::{plain, plain_gguf},
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "qwen3",
    architectures: &["Qwen3ForCausalLM"],
    gguf: &["qwen3"],
    from_config,
    from_gguf,
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let mut decoder = plain(keys)?;
    let attention = keys.flag("attention_bias", false)?;
    decoder.biases = Biases { query_key_value: attention, output: attention, mlp: false };
    decoder.has_head_norms = true;
    Ok(decoder.spec("qwen3", files))
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let mut decoder = plain_gguf(keys, files)?;
    decoder.has_head_norms = true;
    Ok(decoder.spec("qwen3", files))
}
