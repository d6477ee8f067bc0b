//! Qwen3 (dense): as Qwen2, with a norm on each query and key head and, as a rule, no biases.

use hub_nn::spec::{Head, LinearSpec, ModelSpec, NormScope, PooledLayer, PooledSpec, RowPooling, TensorRef};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    bert::one_score,
    decoder::Biases,
    keys::DefaultValue,
    qwen2::{plain, plain_gguf},
    written,
};

/// Rerankers whose head is one number.
const CLASSIFIER: &str = "Qwen3ForSequenceClassification";

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "qwen3",
    architectures: &["Qwen3ForCausalLM", CLASSIFIER],
    model_types: &["qwen3"],
    defaults: &[
        ("head_dim", DefaultValue::Whole(128)),
        ("hidden_act", DefaultValue::Text("silu")),
        ("max_position_embeddings", DefaultValue::Whole(32_768)),
        ("max_window_layers", DefaultValue::Whole(28)),
        ("num_key_value_heads", DefaultValue::Whole(32)),
        ("rms_norm_eps", DefaultValue::Number(1e-6)),
        ("sliding_window", DefaultValue::Whole(4_096)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "qwen3", read: Some(from_gguf), write: Some(written::plain) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let mut decoder = plain(keys)?;
    let attention = keys.flag("attention_bias", false)?;
    decoder.biases = Biases::of_attention(attention);
    decoder.head_norms = Some(NormScope::Head);
    let spec = decoder.spec("qwen3", files);
    if files.architecture != CLASSIFIER {
        return Ok(spec);
    }
    let outputs = one_score(keys, files, "score.weight")?;
    let weight = TensorRef::new("score.weight");
    let linear = LinearSpec { weight, bias: None, inputs: spec.hidden_size, outputs };
    let layers = vec![PooledLayer::plain(linear)];
    Ok(ModelSpec { head: Head::Classifier(PooledSpec { pooling: RowPooling::Last, layers }), ..spec })
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let mut decoder = plain_gguf(keys, files)?;
    decoder.head_norms = Some(NormScope::Head);
    Ok(decoder.spec("qwen3", files))
}
