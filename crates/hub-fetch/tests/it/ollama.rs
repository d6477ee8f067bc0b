use hub_fetch::{Error, Origin, remove_owned};

use hub_fixtures::Registry;

use crate::{fetcher, noise, pull};

#[test]
fn a_model_comes_with_all_that_its_manifest_names() {
    let registry = Registry::start();
    let weights = noise(9 << 20, 1);
    let digest = registry.ollama(
        "library/tiny",
        "latest",
        &[
            ("model", weights.clone()),
            ("template", b"{{ .Prompt }}".to_vec()),
            ("license", b"MIT".to_vec()),
            ("params", br#"{"temperature":0.5}"#.to_vec()),
            ("projector", noise(1_000, 2)),
        ],
    );
    let home = tempfile::tempdir().unwrap();
    let fetcher_online = fetcher(home.path(), &registry, |_| {});
    let fetched = pull(&fetcher_online, "ollama:tiny").unwrap();
    assert_eq!(fetched.path, home.path().join("models/ollama/blobs").join(format!("sha256-{digest}")));
    assert_eq!(std::fs::read(&fetched.path).unwrap(), weights);
    assert_eq!(fetched.origin, Origin::Ollama { name: "library/tiny".to_owned(), tag: "latest".to_owned() });
    let extras = fetched.ollama.unwrap();
    assert_eq!(extras.licenses, ["MIT"]);
    assert_eq!(extras.params.as_deref(), Some(r#"{"temperature":0.5}"#));
    assert_eq!(extras.template.as_deref(), Some("{{ .Prompt }}"));
    assert!(extras.projector.is_some_and(|path| path.is_file()) && extras.adapters.is_empty());

    let blob = format!("blobs/sha256-{digest}");
    let offline = fetcher(home.path(), &registry, |options| options.is_offline = true);
    assert_eq!(pull(&offline, "ollama:tiny").unwrap().path, fetched.path);
    let connections = registry.connections();
    for (source, missing) in [("ollama:other", "manifests/library/other/latest"), ("ollama:tiny", &*blob)] {
        std::fs::remove_file(home.path().join("models/ollama").join(&blob)).ok();
        let refused = pull(&offline, source).unwrap_err();
        let place = home.path().join("models/ollama").join(missing);
        assert!(
            matches!(&refused, Error::Offline { place: Some(found), .. } if *found == place),
            "{refused}"
        );
    }
    assert_eq!(registry.connections(), connections);
}

#[test]
fn what_another_model_names_as_well_stays() {
    let registry = Registry::start();
    let license = ("license", b"MIT".to_vec());
    registry.ollama("library/one", "latest", &[("model", noise(10_000, 1)), license.clone()]);
    registry.ollama("library/two", "latest", &[("model", noise(20_000, 2)), license]);
    let home = tempfile::tempdir().unwrap();
    let fetcher = fetcher(home.path(), &registry, |_| {});
    let (one, two) = (pull(&fetcher, "ollama:one").unwrap(), pull(&fetcher, "ollama:two").unwrap());
    let models = home.path().join("models");
    assert!(remove_owned(&models, &one.path).unwrap() >= 10_000);
    assert!(!one.path.exists() && two.path.exists());
    assert_eq!(pull(&fetcher, "ollama:two").unwrap().ollama.unwrap().licenses, ["MIT"]);
    assert_eq!(remove_owned(&models, &home.path().join("elsewhere.gguf")).unwrap(), 0);
}

#[test]
fn what_the_registry_does_not_know_is_said() {
    let registry = Registry::start();
    registry.ollama("library/adapter", "latest", &[("adapter", noise(10, 1))]);
    let home = tempfile::tempdir().unwrap();
    let fetcher = fetcher(home.path(), &registry, |_| {});
    let missing = pull(&fetcher, "ollama:nothing:7b").unwrap_err();
    assert!(missing.to_string().contains("model nothing:7b"), "{missing}");
    assert!(matches!(pull(&fetcher, "ollama:adapter"), Err(Error::Answer { .. })));
}

#[test]
fn a_lying_size_costs_nothing() {
    let registry = Registry::start();
    let digest = format!("sha256:{}", "0a".repeat(32));
    let layer = |word: &str| {
        let media_type = format!("application/vnd.ollama.image.{word}");
        serde_json::json!({ "mediaType": media_type, "digest": digest, "size": 10_u64.pow(18) })
    };
    let manifest = serde_json::json!({ "config": layer("config"), "layers": [layer("model")] });
    registry.file("/v2/library/huge/manifests/latest", manifest.to_string().into_bytes());
    let home = tempfile::tempdir().unwrap();
    let refused = pull(&fetcher(home.path(), &registry, |_| {}), "ollama:huge").unwrap_err();
    assert!(matches!(refused, Error::Space { .. }), "{refused}");
}

#[test]
fn a_file_that_was_cut_short_is_fetched_again() {
    let registry = Registry::start();
    registry.ollama("library/tiny", "latest", &[("model", noise(9 << 20, 1))]);
    let home = tempfile::tempdir().unwrap();
    let fetcher = fetcher(home.path(), &registry, |_| {});
    let fetched = pull(&fetcher, "ollama:tiny").unwrap();
    std::fs::File::options().write(true).open(&fetched.path).unwrap().set_len(1_000).unwrap();
    let plan = fetcher.plan(&"ollama:tiny".parse().unwrap(), &hub_base::CancelToken::new()).unwrap();
    assert!(plan.missing_bytes() > 9 << 20 >> 1, "what is damaged is missing");
    pull(&fetcher, "ollama:tiny").unwrap();
    assert_eq!(std::fs::read(&fetched.path).unwrap(), noise(9 << 20, 1));
}
