//! Which quantized weights of folders are read: what `quantization_config` says of them.
//!
//! What the weights are made of is found by their tensors' names, in `hub_nn::weights`; modules that are not quantized are
//! plain tensors. Here is only refused what those names would not show.

use std::collections::HashSet;

use hub_nn::{
    spec::{LeftOut, ModelSpec},
    weights::Weights,
};
use serde_json::{Map, Value};

use super::{FamilyError, MAX_SHOWN};

/// What stands in errors for every kind that is read.
const SUPPORTED: &str =
    "MXFP4 of gpt-oss, FP8, GPTQ, AWQ and bitsandbytes, or plain weights, or a GGUF file,";

/// What other programs round cached keys and values with.
const OF_CACHES: [&str; 2] = [".k_scale", ".v_scale"];

/// Returns the tensors of quantized modules that change nothing: biases of zeros, which early programs for GPTQ write beside
/// each matrix, and scales of caches of eight bits, which are kept as they are here.
pub(super) fn left_out(config: &Map<String, Value>, spec: &ModelSpec, weights: &Weights) -> Vec<LeftOut> {
    let is_said = config.get("quantization_config").is_some_and(Value::is_object);
    let uses = spec.tensors();
    let used: HashSet<_> = uses.iter().map(|used| used.tensor.name.as_str()).collect();
    let is_quantized = |module: &str| {
        let info = weights.info(&format!("{module}.weight"));
        info.is_some_and(|info| info.stored_as().starts_with("GPTQ"))
    };
    let is_zero = |name: &str| {
        weights.read(name).is_ok_and(|raw| raw.kind.is_float() && raw.bytes.iter().all(|byte| *byte == 0))
    };
    let reason = |name: &&str| match name.strip_suffix(".bias") {
        Some(module) if is_quantized(module) && is_zero(name) => {
            Some("a bias of zeros, beside a matrix of GPTQ")
        }
        _ if is_said && OF_CACHES.iter().any(|scale| name.ends_with(scale)) => {
            Some("a scale of cached keys or values")
        }
        _ => None,
    };
    let names = weights.names().filter(|name| !used.contains(*name));
    names.filter_map(|name| Some(LeftOut { name: name.to_owned(), reason: reason(&name)? })).collect()
}

/// Checks what a configuration says of its weights.
///
/// # Errors
/// [`FamilyError::Unsupported`], naming the first tensor that is stored so, if they are stored in a way that is not read.
pub(super) fn check(config: &Map<String, Value>, weights: &Weights) -> Result<(), FamilyError> {
    let said = match config.get("quantization_config") {
        None | Some(Value::Null) => return Ok(()),
        Some(said) => said,
    };
    let text = |key: &str| said[key].as_str().map(str::to_lowercase);
    let refused = |key: &str, value: &str, supported: &str| {
        let value: String = value.chars().take(MAX_SHOWN).collect();
        let tensor = weights.names().find(|name| {
            weights.info(name).is_some_and(|info| !info.kind.is_float() && !info.kind.is_quantized())
        });
        let tensor = tensor.map(|name| format!(" (tensor `{name}`)")).unwrap_or_default();
        let key = format!("quantization_config{key}");
        FamilyError::Unsupported { key, value: value + &tensor, supported: supported.to_owned() }
    };
    let only = |key: &str, known: &[&str]| match text(key) {
        Some(value) if !known.contains(&value.as_str()) => {
            Err(refused(&format!(".{key}"), &value, &known.join(" or ")))
        }
        _ => Ok(()),
    };
    // The first files of bitsandbytes do not name the method.
    let is_old = ["load_in_4bit", "load_in_8bit"].iter().any(|key| said[*key] == Value::Bool(true));
    match text("quant_method").as_deref() {
        Some("mxfp4" | "fp8" | "fbgemm_fp8" | "bitsandbytes") => Ok(()),
        Some("gptq") => only("checkpoint_format", &["gptq", "gptq_v2"]),
        Some("awq") => only("version", &["gemm"]),
        Some("compressed-tensors") if text("format").as_deref() == Some("float-quantized") => Ok(()),
        Some("compressed-tensors") => only("format", &["float-quantized"])
            .and_then(|()| Err(refused("", "compressed-tensors", SUPPORTED))),
        None if is_old => Ok(()),
        method => Err(refused("", method.unwrap_or("unnamed"), SUPPORTED)),
    }
}
