//! EmbeddingGemma: Gemma 3 without its head, whose rows see both ways; its GGUF files hold the matrices behind the pooling.

use hub_nn::spec::{Head, LinearSpec, Mask, ModelSpec, PooledLayer, PooledSpec, TensorRef};

use super::{FamilyError, FamilySpec, Files, Gguf, Keys, decoder::to_each_side, gemma3, row_pooling};

/// The matrices behind the pooling, as llama.cpp names them.
const DENSE: [&str; 2] = ["dense_2", "dense_3"];

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "embedding-gemma",
    architectures: &["Gemma3TextModel"],
    model_types: &[],
    defaults: gemma3::SPEC.defaults,
    from_config,
    gguf: Some(Gguf { architecture: "gemma-embedding", read: Some(from_gguf), write: None }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sees_both = keys.flag("use_bidirectional_attention", false)?;
    let decoder = gemma3::decoder(keys, |window| if sees_both { to_each_side(window) } else { window })?;
    let mask = if sees_both { Mask::Bidirectional } else { Mask::Causal };
    Ok(ModelSpec { mask, head: Head::None, ..decoder.spec("embedding-gemma", files) })
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    keys.only("attention.causal", "false")?;
    let decoder = gemma3::gguf_decoder(keys, files, to_each_side)?;
    let spec = decoder.spec("embedding-gemma", files);
    let mut layers = Vec::new();
    for name in DENSE {
        let sizes =
            (keys.maybe_size(&format!("{name}_feat_in"))?, keys.maybe_size(&format!("{name}_feat_out"))?);
        let (Some(inputs), Some(outputs)) = sizes else { continue };
        let weight = TensorRef::new(format!("{name}.weight"));
        layers.push(PooledLayer::plain(LinearSpec { weight, bias: None, inputs, outputs }));
    }
    let number = keys.maybe_size("pooling_type")?.unwrap_or(1);
    let pooling = row_pooling(number as u64).ok_or_else(|| keys.unsupported("pooling_type", "1, 2 or 3"))?;
    let head = if layers.is_empty() { Head::None } else { Head::Vector(PooledSpec { pooling, layers }) };
    Ok(ModelSpec { mask: Mask::Bidirectional, head, ..spec })
}
