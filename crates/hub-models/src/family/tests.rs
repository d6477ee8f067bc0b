//! Families on the configurations of real models, as their folders carry them.

use hub_nn::{
    spec::{Head, ModelSpec, RopeScaling},
    weights::{Weights, write_gguf},
};
use serde_json::{Value, json};

use super::{FAMILIES, FamilyError, spec_of};

/// Reads a configuration against files without a tensor: enough for decoders, which ask for none.
fn read(config: &Value) -> Result<ModelSpec, FamilyError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let header = br#"{"unused":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(&[0; 4]);
    std::fs::write(&path, bytes).unwrap();
    spec_of(&Weights::open(&path).unwrap(), Some(config))
}

fn llama() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu",
        "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072,
        "mlp_bias": false, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16,
        "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128256
    })
}

fn qwen25() -> Value {
    json!({
        "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
        "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02,
        "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 21, "model_type": "qwen2",
        "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers_version": "4.43.1", "use_cache": true, "use_sliding_window": false, "vocab_size": 151936
    })
}

fn gemma3() -> Value {
    json!({
        "architectures": ["Gemma3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "attn_logit_softcapping": null, "bos_token_id": 2, "cache_implementation": "hybrid",
        "eos_token_id": [1, 106], "final_logit_softcapping": null, "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152, "initializer_range": 0.02,
        "intermediate_size": 6912, "max_position_embeddings": 32768, "model_type": "gemma3_text",
        "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1, "pad_token_id": 0,
        "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000, "rope_scaling": null,
        "rope_theta": 1000000, "sliding_window": 512, "sliding_window_pattern": 6, "torch_dtype": "bfloat16",
        "transformers_version": "4.50.0.dev0", "use_cache": true, "vocab_size": 262144
    })
}

#[test]
fn llama_3_2_1b() {
    let spec = read(&llama()).unwrap();
    assert_eq!((spec.layers.len(), spec.context_tokens, spec.is_tied()), (16, 131_072, true));
    let mixer = &spec.layers[0].mixer;
    assert_eq!((mixer.heads, mixer.kv_heads, mixer.head_dim), (32, 8, 64));
    assert!(
        matches!(&mixer.rope.as_ref().unwrap().scaling, RopeScaling::Llama3(scaling) if scaling.factor == 32.0)
    );
    spec.check().unwrap();
}

#[test]
fn qwen_2_5_has_biases_and_its_window_is_off() {
    let spec = read(&qwen25()).unwrap();
    let mixer = &spec.layers[23].mixer;
    assert!(mixer.query.bias.is_some() && mixer.output.bias.is_none());
    assert_eq!(mixer.window, None);
    spec.check().unwrap();
}

#[test]
fn gemma_3_sees_everything_in_each_sixth_layer() {
    let spec = read(&gemma3()).unwrap();
    let windows: Vec<_> = spec.layers.iter().take(7).map(|layer| layer.mixer.window).collect();
    assert_eq!(windows, [Some(512), Some(512), Some(512), Some(512), Some(512), None, Some(512)]);
    let base = |layer: usize| spec.layers[layer].mixer.rope.as_ref().unwrap().base;
    assert_eq!((base(0), base(5)), (10_000.0, 1_000_000.0));
    assert!(spec.is_tied(), "as Gemma is where the file does not say");
    assert!(matches!(&spec.head, Head::Logits { soft_cap: None, .. }));
    spec.check().unwrap();
}

#[test]
fn a_key_nobody_knows_is_refused_by_name() {
    let mut config = llama();
    config["attention_sinks"] = json!(4);
    let expected = FamilyError::UnknownKey { key: "attention_sinks".to_owned(), family: "llama" };
    assert_eq!(read(&config).unwrap_err(), expected);

    let mut config = llama();
    config["rope_scaling"]["twist"] = json!(1);
    let expected = FamilyError::UnknownKey { key: "rope_scaling.twist".to_owned(), family: "llama" };
    assert_eq!(read(&config).unwrap_err(), expected);
}

#[test]
fn a_key_that_says_nothing_is_no_key() {
    let mut config = llama();
    config["attention_sinks"] = Value::Null;
    assert!(read(&config).is_ok());
}

#[test]
fn absurd_numbers_are_refused_before_anything_is_made_of_them() {
    for (key, value) in [
        ("num_hidden_layers", json!(1_000_000_000)),
        ("num_hidden_layers", json!(0)),
        ("hidden_size", json!(-1)),
        ("hidden_size", json!(1.5)),
        ("vocab_size", json!("many")),
        ("rms_norm_eps", json!(1e300)),
        ("hidden_act", json!("mish")),
        ("tie_word_embeddings", json!("yes")),
        ("rope_scaling", json!([])),
    ] {
        let mut config = llama();
        config[key] = value.clone();
        let error = read(&config).unwrap_err();
        assert!(
            matches!(&error, FamilyError::BadValue { key: named, .. } if named == key),
            "{key}: {value}: {error}"
        );
    }
    for (key, value) in
        [("num_attention_heads", json!(0)), ("num_key_value_heads", json!(5)), ("hidden_size", json!(0))]
    {
        let mut config = llama();
        config[key] = value;
        assert!(read(&config).unwrap().check().is_err(), "{key}");
    }
}

#[test]
fn an_unknown_architecture_is_named_with_those_that_are_known() {
    let error = read(&json!({"architectures": ["MambaForCausalLM"]})).unwrap_err().to_string();
    assert!(error.contains("MambaForCausalLM") && error.contains("LlamaForCausalLM"), "{error}");
    assert!(matches!(read(&json!({})), Err(FamilyError::NoArchitecture { .. })));
}

#[test]
fn a_quantized_folder_is_refused_by_its_method() {
    let mut config = llama();
    config["quantization_config"] = json!({"quant_method": "awq", "bits": 4});
    assert!(read(&config).unwrap_err().to_string().contains("awq"));
}

#[test]
fn unknown_metadata_is_refused_by_name() {
    let path = hub_fixtures::gguf("llama");
    let weights = Weights::open(&path).unwrap();
    assert!(spec_of(&weights, None).is_ok());
    for key in ["llama.attention.sinks", "surprise.key"] {
        let mut metadata = weights.metadata().clone();
        metadata.insert(key, 1_u32);
        let tensors: Vec<_> =
            weights.names().map(|name| (name.to_owned(), weights.read(name).unwrap())).collect();
        let bytes = write_gguf(Vec::new(), &metadata, &tensors).unwrap();
        let changed = Weights::from_gguf_bytes(bytes).unwrap();
        let expected = FamilyError::UnknownKey { key: key.to_owned(), family: "llama" };
        assert_eq!(spec_of(&changed, None).unwrap_err(), expected);
    }
}

#[test]
fn every_file_here_is_registered() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/family");
    let shared = ["mod", "decoder", "error", "keys", "names", "rope", "tests"];
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().replace('_', "-"))
        .filter(|name| !shared.contains(&name.as_str()))
        .collect();
    files.sort();
    let mut registered: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    registered.sort_unstable();
    assert_eq!(files, registered);
}
