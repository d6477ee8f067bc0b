//! Families on the configurations of real models, on the tiny models, and on files that are wrong.

mod broken;
mod configs;
mod fixtures;
mod listing;
mod real;
mod summary;

use hub_nn::{
    spec::ModelSpec,
    weights::{Metadata, Weights, write_gguf},
};
use serde_json::{Value, json};

use self::summary::summary;
use super::{FAMILIES, FamilyError, spec_of};

/// Reads a configuration against files that hold only what families ask files about: the rows of a classifier.
fn read(config: &Value) -> Result<ModelSpec, FamilyError> {
    let header = json!({
        "classifier.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]},
        "classifier.out_proj.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [4, 8]},
        "bert.embeddings.word_embeddings.weight": {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]},
    })
    .to_string();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(&path, [&length[..], header.as_bytes(), &[0; 12]].concat()).unwrap();
    spec_of(&Weights::open(&path).unwrap(), Some(config))
}

/// A configuration with some keys set anew; a key at `"absent"` is taken out.
fn changed(mut config: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        match value.as_str() {
            Some("absent") => drop(config.as_object_mut().unwrap().remove(key)),
            _ => config[key] = value.clone(),
        }
    }
    config
}

/// The tiny model `name` as a GGUF file, with its metadata changed.
fn read_gguf(name: &str, change: impl Fn(&mut Metadata)) -> Result<ModelSpec, FamilyError> {
    let weights = Weights::open(&hub_fixtures::gguf(name)).unwrap();
    let mut metadata = weights.metadata().clone();
    change(&mut metadata);
    let tensors: Vec<_> =
        weights.names().map(|name| (name.to_owned(), weights.read(name).unwrap())).collect();
    let bytes = write_gguf(Vec::new(), &metadata, &tensors).unwrap();
    spec_of(&Weights::from_gguf_bytes(bytes).unwrap(), None)
}

#[test]
fn a_key_nobody_knows_is_refused_by_name() {
    let mut config = configs::llama_3_2_1b();
    config["attention_sinks"] = json!(4);
    let expected = FamilyError::UnknownKey { key: "attention_sinks".to_owned(), family: "llama" };
    assert_eq!(read(&config).unwrap_err(), expected);

    let mut config = configs::llama_3_2_1b();
    config["rope_scaling"]["twist"] = json!(1);
    let expected = FamilyError::UnknownKey { key: "rope_scaling.twist".to_owned(), family: "llama" };
    assert_eq!(read(&config).unwrap_err(), expected);
}

#[test]
fn a_key_that_says_nothing_is_no_key() {
    let mut config = configs::llama_3_2_1b();
    config["attention_sinks"] = Value::Null;
    assert!(read(&config).is_ok());
}

#[test]
fn absurd_numbers_are_refused_before_anything_is_made_of_them() {
    for (key, value) in [
        ("num_hidden_layers", json!(1_000_000_000)),
        ("num_hidden_layers", json!(0)),
        ("num_attention_heads", json!(u32::MAX)),
        ("hidden_size", json!(-1)),
        ("hidden_size", json!(1.5)),
        ("hidden_size", json!(u64::MAX)),
        ("vocab_size", json!("many")),
        ("rms_norm_eps", json!(1e300)),
        ("rms_norm_eps", json!(0.0)),
        ("rope_theta", json!(-1.0)),
        ("tie_word_embeddings", json!("yes")),
        ("rope_scaling", json!([])),
    ] {
        let error = read(&changed(configs::llama_3_2_1b(), json!({key: value}))).unwrap_err();
        assert!(
            matches!(&error, FamilyError::BadValue { key: named, .. } if named == key),
            "{key}: {value}: {error}"
        );
    }
    for (key, value) in [
        ("num_attention_heads", json!(0)),
        ("num_attention_heads", json!(1 << 30)),
        ("head_dim", json!(1 << 30)),
        ("num_key_value_heads", json!(5)),
        ("hidden_size", json!(0)),
    ] {
        let spec = read(&changed(configs::llama_3_2_1b(), json!({key: value}))).unwrap();
        assert!(spec.check().is_err(), "{key}: {value}");
    }
}

/// Checks that a value that would change the results is refused by its name.
#[track_caller]
fn check_unsupported(config: Value, changes: Value) {
    let expected = changes.as_object().unwrap().keys().next().unwrap().clone();
    let error = read(&changed(config, changes)).unwrap_err();
    assert!(matches!(&error, FamilyError::Unsupported { key, .. } if *key == expected), "{error}");
    assert_eq!(error.kind(), hub_base::ErrorKind::Unsupported);
}

#[test]
fn values_that_are_not_implemented_are_refused_by_name() {
    check_unsupported(configs::llama_3_2_1b(), json!({"hidden_act": "mish"}));
    check_unsupported(configs::smollm2_135m(), json!({"rope_interleaved": true}));
    check_unsupported(configs::qwen2_5_0_5b(), json!({"use_mrope": true}));
    check_unsupported(configs::gemma_3_1b(), json!({"use_bidirectional_attention": true}));
    check_unsupported(configs::gemma_2_2b(), json!({"sliding_window_size": 17}));
    check_unsupported(configs::phi_4_mini(), json!({"lm_head_bias": true}));
    check_unsupported(configs::minilm_l6_v2(), json!({"position_embedding_type": "relative_key"}));
    check_unsupported(configs::minilm_l6_v2(), json!({"is_decoder": true}));
    check_unsupported(
        configs::llama_3_2_1b(),
        json!({"quantization_config": {"quant_method": "aqlm", "bits": 2}}),
    );
    let error =
        read(&changed(configs::llama_3_2_1b(), json!({"rope_scaling": {"type": "spiral"}}))).unwrap_err();
    assert!(matches!(&error, FamilyError::Unsupported { key, .. } if key == "rope_scaling.type"), "{error}");
}

#[test]
fn two_ways_to_say_one_thing_are_refused() {
    for config in [configs::codellama_7b(), configs::gemma_3_1b()] {
        let both = json!({"rope_parameters": {"rope_theta": 1.5}, "rope_scaling": {"rope_type": "linear", "factor": 2.0}});
        let error = read(&changed(config, both)).unwrap_err();
        assert!(matches!(&error, FamilyError::BadValue { key, .. } if key == "rope_scaling"), "{error}");
    }
}

#[test]
fn an_unknown_architecture_is_named_with_those_that_are_known() {
    let error = read(&json!({"architectures": ["MambaForCausalLM"]})).unwrap_err().to_string();
    assert!(error.contains("MambaForCausalLM") && error.contains("LlamaForCausalLM"), "{error}");
    assert!(matches!(read(&json!({})), Err(FamilyError::NoArchitecture { .. })));
}

#[test]
fn a_file_without_an_architecture_is_known_by_its_type() {
    for (config, family) in [(configs::llama_3_2_1b(), "llama"), (configs::minilm_l6_v2(), "bert")] {
        assert_eq!(read(&changed(config, json!({"architectures": null}))).unwrap().family, family);
    }
    let error = read(&json!({"model_type": "mamba"})).unwrap_err();
    assert!(matches!(&error, FamilyError::UnknownArchitecture { name, .. } if name == "mamba"), "{error}");
}

#[test]
fn unknown_metadata_is_refused_by_name() {
    assert!(read_gguf("llama", |_| ()).is_ok());
    assert!(read_gguf("llama", |metadata| drop(metadata.insert("mradermacher.quantized_by", "me"))).is_ok());
    for key in ["llama.attention.sinks", "surprise.key"] {
        let error = read_gguf("llama", |metadata| drop(metadata.insert(key, 1_u32))).unwrap_err();
        assert_eq!(error, FamilyError::UnknownKey { key: key.to_owned(), family: "llama" });
    }
}

/// Checks that a value of GGUF metadata that would change the results is refused by its name.
#[track_caller]
fn check_unsupported_gguf(name: &str, key: &str, value: impl Into<hub_nn::weights::Value>) {
    let value = value.into();
    let error = read_gguf(name, |metadata| drop(metadata.insert(key, value.clone()))).unwrap_err();
    assert!(matches!(&error, FamilyError::Unsupported { key: named, .. } if named == key), "{key}: {error}");
}

#[test]
fn metadata_that_is_not_implemented_is_refused_by_name() {
    check_unsupported_gguf("llama", "llama.attention.value_length", 8_u32);
    check_unsupported_gguf("llama", "llama.rope.scaling.type", "longrope");
    check_unsupported_gguf("llama31", "llama.rope.scaling.type", "yarn");
    check_unsupported_gguf("llama-yarn", "llama.rope.scaling.yarn_ext_factor", 0.5_f32);
    check_unsupported_gguf("granite", "granite.rope.scaling.finetuned", false);
    check_unsupported_gguf("bert", "bert.attention.causal", true);
}

#[test]
fn metadata_may_say_which_layers_are_windowed() {
    let windows = |key: &str, value: hub_nn::weights::Value| {
        let spec = read_gguf("gemma3", |metadata| drop(metadata.insert(key, value.clone()))).unwrap();
        spec.layers.iter().map(|layer| layer.mixer.window().is_some()).collect::<Vec<_>>()
    };
    let pattern = "gemma3.attention.sliding_window_pattern";
    assert_eq!(windows(pattern, 2_u32.into()), [true, false, true, false, true, false]);
    let flags = vec![false, true, true, false, false, true];
    assert_eq!(windows(pattern, flags.clone().into()), flags.as_slice());
    assert_eq!(windows("gemma3.attention.sliding_window", 0_u32.into()), [false; 6]);
    let error = read_gguf("gemma3", |metadata| drop(metadata.insert(pattern, vec![true]))).unwrap_err();
    assert!(matches!(&error, FamilyError::BadValue { key, .. } if key == pattern), "{error}");
}

#[test]
fn every_file_here_is_registered() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/family");
    let shared =
        "mod decoder delta-net error experts keys lookup mistral-own names per-layer quantization rope shape tests text written"
            .split(' ')
            .collect::<Vec<_>>();
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().replace('_', "-"))
        .filter(|name| !shared.contains(&name.as_str()))
        .collect();
    files.sort();
    let mut registered: Vec<String> = FAMILIES.iter().map(|family| family.name.replace('.', "-")).collect();
    registered.sort_unstable();
    assert_eq!(files, registered);
}

#[test]
fn a_renamed_model_is_read_by_its_shape() {
    for (name, family) in
        [("llama", "llama"), ("mistral", "mistral"), ("qwen3", "qwen3"), ("qwen3-moe", "qwen3-moe")]
    {
        let folder = hub_fixtures::tiny_model(name);
        let weights = Weights::open(folder.path()).unwrap();
        let config: Value =
            serde_json::from_slice(&std::fs::read(folder.path().join("config.json")).unwrap()).unwrap();
        for model_type in [config["model_type"].clone(), json!("vistral"), Value::Null] {
            let renamed = changed(
                config.clone(),
                json!({"architectures": ["VistralForCausalLM"], "model_type": model_type}),
            );
            let reading = super::read(&weights, Some(&renamed)).unwrap();
            assert_eq!(
                (reading.spec.family, reading.unknown_name.as_deref()),
                (family, Some("VistralForCausalLM"))
            );
        }
        let other = changed(config, json!({"architectures": ["VistralForCausalLM"], "clip_qkv": 8.0}));
        let told = super::read(&weights, Some(&other)).err().unwrap().to_string();
        assert!(told.contains("VistralForCausalLM") && told.contains("clip_qkv"), "{told}");
    }
}
