//! Granite 3 MoE: as Granite, with a mixture of experts in every layer and, in some models, an MLP beside it.

use hub_nn::spec::ModelSpec;

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    experts::{self, ExpertNames, Mixture},
    granite::{check_rotated, plain, plain_gguf},
    keys::DefaultValue,
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "granite-moe",
    architectures: &["GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"],
    model_types: &["granitemoe", "granitemoeshared"],
    defaults: &[
        ("hidden_act", DefaultValue::Text("silu")),
        ("max_position_embeddings", DefaultValue::Whole(2_048)),
        ("num_experts_per_tok", DefaultValue::Whole(2)),
        ("num_local_experts", DefaultValue::Whole(8)),
        ("rms_norm_eps", DefaultValue::Number(1e-6)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "granitemoe", read: Some(from_gguf), write: Some(written::scaled) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let mut decoder = plain(keys)?;
    let (layers, inner) = (decoder.sizes.layers, decoder.sizes.inner);
    let count = experts::count(keys, "num_local_experts", layers)?;
    let all = (count, keys.size("num_experts_per_tok")?, inner);
    let shared = keys.maybe_size("shared_intermediate_size")?.filter(|inner| *inner > 0);
    match keys.text("position_embedding_type")? {
        None | Some("rope") => {}
        Some("nope") => decoder.rotate_if(|_| false),
        Some(_) => return Err(keys.unsupported("position_embedding_type", "rope or nope")),
    }
    decoder.experts = Some(Mixture {
        shared: shared.map(|inner| (inner, false)),
        ..Mixture::new(ExpertNames::Granite, layers, all)
    });
    Ok(decoder.spec("granite-moe", files))
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    check_rotated(keys)?;
    let mut decoder = plain_gguf(keys, files)?;
    let shared = keys.maybe_size("expert_shared_feed_forward_length")?.filter(|inner| *inner > 0);
    let experts = Mixture::from_gguf(keys, &decoder.sizes)?;
    decoder.experts =
        experts.map(|experts| Mixture { shared: shared.map(|inner| (inner, false)), ..experts });
    Ok(decoder.spec("granite-moe", files))
}
