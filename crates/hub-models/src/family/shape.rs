//! Models whose architecture no family knows by its name, while one knows their shape: derived models that their authors
//! renamed.

use hub_nn::{spec::ModelSpec, weights::Weights};
use serde_json::{Map, Value};

use super::{
    FAMILIES, FamilySpec, llama, lookup, mistral, mixtral, qwen2, qwen3, qwen3_moe, read_as, text::Layout,
};

/// Families whose layers are what their keys and tensors say and nothing more, the plainest first.
static PLAIN: [&FamilySpec; 6] =
    [&llama::SPEC, &mistral::SPEC, &qwen2::SPEC, &qwen3::SPEC, &mixtral::SPEC, &qwen3_moe::SPEC];

/// Architectures with the keys and tensors of a plain family, and other arithmetic.
const OTHERS: [&str; 1] = [
    // Rotates neighbours.
    "HeliumForCausalLM",
];

/// Reads a configuration as that of the family whose keys and tensors it has, every one of them.
///
/// # Errors
/// Why the family that its type of model names cannot read it, or else the one with the nearest name, or the plainest.
pub(super) fn read(
    config: &Map<String, Value>,
    weights: &Weights,
    layout: Layout,
    name: &str,
) -> Result<ModelSpec, String> {
    if OTHERS.contains(&name) {
        return Err("it has the keys and tensors of a known family, and computes otherwise".to_owned());
    }
    let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let of_type = FAMILIES.iter().copied().find(|family| family.model_types.contains(&model_type));
    let attempt = |family: &'static FamilySpec| -> Result<ModelSpec, String> {
        let architecture = family.architectures.first().copied().unwrap_or_default();
        let read = read_as(family, architecture, config, weights, layout);
        let spec = read.map_err(|error| error.to_string())?;
        spec.check().map_err(|error| error.to_string())?;
        spec.check_tensors(weights.shapes()).map_err(|error| error.to_string())?;
        Ok(spec)
    };
    if let Some(family) = of_type {
        return attempt(family);
    }
    let nearest = lookup::nearest(name, lookup::names());
    let mut reason = None;
    for family in PLAIN {
        match attempt(family) {
            Ok(spec) => return Ok(spec),
            Err(error) if family.architectures.contains(&nearest) => reason = Some(error),
            Err(error) => reason = reason.or(Some(error)),
        }
    }
    Err(reason.unwrap_or_default())
}
