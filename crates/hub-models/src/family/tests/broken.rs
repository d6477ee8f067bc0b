//! Every family's configurations, broken in every key: an error that says so, and no panic.

use hub_fixtures::{Kind, TinyModel, gguf_models, models};
use hub_nn::weights::{Metadata, Weights, write_gguf};
use serde_json::{Value, json};

use super::super::{FamilyError, spec_of};

/// What a key may hold by mistake or by malice.
fn mistakes() -> Vec<Value> {
    vec![
        Value::Null,
        json!(-1),
        json!(0),
        json!(3),
        json!(1.5),
        json!(1_u64 << 30),
        json!(u64::MAX),
        json!(1e300),
        json!("what"),
        json!(true),
        json!([]),
        json!(["what"]),
        json!({}),
    ]
}

/// Lists the paths of all keys of a configuration, three levels deep.
fn paths(config: &Value) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for (key, value) in config.as_object().unwrap() {
        all.push(vec![key.clone()]);
        for (inner, value) in value.as_object().into_iter().flatten() {
            all.push(vec![key.clone(), inner.clone()]);
            let deepest = value.as_object().into_iter().flatten();
            all.extend(deepest.map(|(deepest, _)| vec![key.clone(), inner.clone(), deepest.clone()]));
        }
    }
    all
}

fn set(config: &Value, path: &[String], value: Option<&Value>) -> Value {
    let mut config = config.clone();
    let (last, parents) = path.split_last().unwrap();
    let parent = parents.iter().fold(&mut config, |level, key| &mut level[key]).as_object_mut().unwrap();
    match value {
        Some(value) => drop(parent.insert(last.clone(), value.clone())),
        None => drop(parent.remove(last)),
    }
    config
}

#[test]
fn broken_configurations_are_errors_that_name_the_key() {
    let (mut named, mut all) = (0, 0);
    for name in [Kind::Text, Kind::Embedding, Kind::Rerank].into_iter().flat_map(models) {
        let folder = TinyModel::new(&name).write();
        let weights = Weights::open(folder.path()).unwrap();
        let text = std::fs::read(folder.path().join("config.json")).unwrap();
        let config: Value = serde_json::from_slice(&text).unwrap();
        for path in paths(&config) {
            let values = mistakes();
            for value in values.iter().map(Some).chain([None]) {
                let read = spec_of(&weights, Some(&set(&config, &path, value)));
                let called = || format!("{name}: {path:?} at {value:?}");
                match read {
                    Ok(spec) => drop(spec.check().and_then(|()| spec.check_tensors(weights.shapes()))),
                    // A number below zero is never right, and the error says which it was.
                    Err(error) if value == Some(&json!(-1)) => {
                        assert!(names(&error, &path), "{}: {error}", called())
                    }
                    Err(error) => {
                        all += 1;
                        named += usize::from(names(&error, &path));
                    }
                }
            }
        }
    }
    // The others say which of two keys that exclude each other is missing.
    assert!(all > 10_000 && named * 1_000 >= all * 995, "{named} of {all}");
}

/// Whether an error names a key, or one that it lies in; of what kind a model is, several keys say.
fn names(error: &FamilyError, path: &[String]) -> bool {
    let text = error.to_string();
    let says_kind = matches!(path.last().map(String::as_str), Some("architectures" | "model_type"));
    says_kind || path.iter().any(|key| text.contains(key.as_str()))
}

#[test]
fn broken_metadata_is_an_error() {
    for name in [Kind::Text, Kind::Embedding, Kind::Rerank].into_iter().flat_map(gguf_models) {
        let weights = Weights::open(&hub_fixtures::gguf(&name)).unwrap();
        let metadata = weights.metadata().clone();
        let tensors: Vec<_> =
            weights.names().map(|name| (name.to_owned(), weights.read(name).unwrap())).collect();
        let architecture = metadata.str("general.architecture").unwrap().to_owned();
        let keys: Vec<String> =
            metadata.keys().filter(|key| key.starts_with(&architecture)).map(str::to_owned).collect();
        for key in keys {
            let read = |change: &dyn Fn(&mut Metadata)| {
                let mut metadata = metadata.clone();
                change(&mut metadata);
                let bytes = write_gguf(Vec::new(), &metadata, &tensors).unwrap();
                let weights = Weights::from_gguf_bytes(bytes).unwrap();
                if let Ok(spec) = spec_of(&weights, None) {
                    drop(spec.check().and_then(|()| spec.check_tensors(weights.shapes())));
                }
            };
            for number in [0_i64, -1, 3, 1 << 30, i64::MAX] {
                read(&|metadata| drop(metadata.insert(key.clone(), number)));
            }
            read(&|metadata| drop(metadata.insert(key.clone(), f32::NAN)));
            read(&|metadata| drop(metadata.insert(key.clone(), "what")));
            read(&|metadata| drop(metadata.insert(key.clone(), vec![1_u32, 2])));
            read(&|metadata| drop(metadata.insert(key.clone(), vec![true])));
        }
    }
}

#[test]
fn most_contradictions_are_told_by_their_key() {
    let (mut told, mut all) = (0, 0);
    for name in [Kind::Text, Kind::Embedding, Kind::Rerank].into_iter().flat_map(models) {
        let folder = TinyModel::new(&name).write();
        let weights = Weights::open(folder.path()).unwrap();
        let text = std::fs::read(folder.path().join("config.json")).unwrap();
        let config: Value = serde_json::from_slice(&text).unwrap();
        // What kind of model it is, is no contradiction, but another model.
        let says_kind = |path: &Vec<String>| matches!(path[0].as_str(), "architectures" | "model_type");
        for path in paths(&config).into_iter().filter(|path| !says_kind(path)) {
            for value in [Some(json!(0)), Some(json!(1 << 20)), None] {
                let broken = set(&config, &path, value.as_ref());
                let Ok(spec) = spec_of(&weights, Some(&broken)) else { continue };
                let checked = spec.check().and_then(|()| spec.check_tensors(weights.shapes()));
                let Err(error) = checked else { continue };
                let error = crate::suspect::explain(&weights, Some(&broken), error).to_string();
                all += 1;
                told += usize::from(path.iter().any(|key| error.contains(key.as_str())));
            }
        }
    }
    assert!(all > 1_000 && told * 100 >= all * 89, "{told} of {all}");
}

#[test]
fn contradictions_of_metadata_are_told_by_their_key() {
    for name in ["llama", "qwen3-moe", "glm4", "lfm2"] {
        let weights = Weights::open(&hub_fixtures::gguf(name)).unwrap();
        let tensors: Vec<_> =
            weights.names().map(|name| (name.to_owned(), weights.read(name).unwrap())).collect();
        let architecture = weights.metadata().str("general.architecture").unwrap();
        for (key, value) in [("block_count", 7_u64), ("embedding_length", 24), ("attention.head_count", 1)] {
            let key = format!("{architecture}.{key}");
            let mut metadata = weights.metadata().clone();
            metadata.insert(key.clone(), value);
            let broken =
                Weights::from_gguf_bytes(write_gguf(Vec::new(), &metadata, &tensors).unwrap()).unwrap();
            let Ok(spec) = spec_of(&broken, None) else { continue };
            let error = spec.check().and_then(|()| spec.check_tensors(broken.shapes())).unwrap_err();
            let told = crate::suspect::explain(&broken, None, error).to_string();
            assert!(told.contains(&key), "{name}: {told}");
        }
    }
}

#[test]
fn a_head_that_is_not_tied_must_be_there() {
    let folder = TinyModel::new("gemma3-vision").write();
    let weights = Weights::open(folder.path()).unwrap();
    let text = std::fs::read(folder.path().join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&text).unwrap();
    assert!(spec_of(&weights, Some(&config)).is_ok());
    let path = ["text_config", "tie_word_embeddings"].map(str::to_owned);
    let error = spec_of(&weights, Some(&set(&config, &path, Some(&json!(false))))).unwrap_err();
    assert!(error.to_string().contains("text_config.tie_word_embeddings"), "{error}");
}
