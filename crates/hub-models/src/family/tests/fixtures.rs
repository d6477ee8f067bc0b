use hub_fixtures::{ConfigForm, Kind, TinyModel, gguf_models, models};
use hub_nn::{spec::ModelSpec, weights::Weights};

use super::{spec_of, summary};

const KINDS: [Kind; 3] = [Kind::Text, Kind::Embedding, Kind::Rerank];

/// Reads a tiny model's folder, and checks that each of its tensors is used or left out with a reason.
pub(super) fn read(name: &str, form: ConfigForm) -> ModelSpec {
    let folder = TinyModel::new(name).config(form).write();
    let config = std::fs::read(folder.path().join("config.json")).unwrap();
    let weights = Weights::open(folder.path()).unwrap();
    let spec = spec_of(&weights, Some(&serde_json::from_slice(&config).unwrap()))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    spec.check().unwrap();
    spec.check_tensors(weights.shapes()).unwrap_or_else(|error| panic!("{name}: {error}"));
    spec
}

#[test]
fn both_generations_of_configurations_mean_the_same() {
    for name in KINDS.into_iter().flat_map(models) {
        assert_eq!(read(&name, ConfigForm::V5), read(&name, ConfigForm::V4), "{name}");
    }
}

#[test]
fn a_gguf_file_means_what_its_folder_means() {
    for name in KINDS.into_iter().flat_map(gguf_models) {
        let weights = Weights::open(&hub_fixtures::gguf(&name)).unwrap();
        let spec = spec_of(&weights, None).unwrap_or_else(|error| panic!("{name}: {error}"));
        spec.check().unwrap();
        spec.check_tensors(weights.shapes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut folder = read(&name, ConfigForm::V5);
        if name.starts_with("granite-hybrid") {
            // llama.cpp's converter writes a context of its own.
            folder.context_tokens = spec.context_tokens;
        }
        if folder.head.pooled().is_none() && spec.head.pooled().is_some() {
            // Other files of the folder say what stands behind its layers.
            folder.head = spec.head.clone();
        }
        assert_eq!(summary(&spec), summary(&folder), "{name}");
    }
}
