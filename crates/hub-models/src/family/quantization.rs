//! Which quantized weights of folders are read: what `quantization_config` says of them.
//!
//! What the weights are made of is found by their tensors' names, in `hub_nn::weights`; modules that are not quantized are
//! plain tensors. Here is only refused what those names would not show.

use hub_nn::weights::Weights;
use serde_json::{Map, Value};

use super::{FamilyError, MAX_SHOWN};

/// What stands in errors for every kind that is read.
const SUPPORTED: &str =
    "MXFP4 of gpt-oss, FP8, GPTQ, AWQ and bitsandbytes, or plain weights, or a GGUF file,";

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
