use std::{path::Path, time::Duration};

use hub::{
    ChatRequest, Error, Hub, HubConfig,
    base::{ErrorKind, ModelId, ProgressSink, Task},
    config::{Budget, KeepAlive},
    models::{EndTokens, GenerateOptions},
};
use hub_nn::weights::{Weights, write_gguf};

/// What the guide model reserves when it is loaded, in bytes: enough to tell what a budget must hold.
async fn guide_bytes(home: &Path) -> u64 {
    let hub = Hub::open(HubConfig::default(), home).await.unwrap();
    hub.load("hub-guide", Task::Chat, None, ProgressSink::default()).await.unwrap();
    let used = hub.account().used_bytes();
    hub.shutdown(Duration::ZERO).await;
    assert_eq!(hub.account().used_bytes(), 0, "a model that is unloaded gives its memory back");
    used
}

fn ask(model: &str) -> ChatRequest {
    let options = GenerateOptions::default().max_tokens(4).greedy();
    ChatRequest::user(model, "How do I list my models?").options(options)
}

/// The same weights under another name: as good as a second model.
async fn import_guide(hub: &Hub, home: &Path, name: &str) {
    let file = home.join(format!("{name}.gguf"));
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../hub-models/guide/hub-guide.gguf"), &file).unwrap();
    let imported = hub.import(&file, None, ProgressSink::default()).await.unwrap();
    assert_eq!(imported.name.as_str(), name);
}

/// Waits until no model holds memory.
async fn empty(hub: &Hub) {
    let empty = async {
        while !hub.loaded().is_empty() || hub.account().used_bytes() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), empty).await.unwrap();
}

async fn import_llama(hub: &Hub, folder: &Path) -> hub::Result<hub::Installed> {
    hub.import(folder, Some(ModelId::new("llama").unwrap()), ProgressSink::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_leaves_when_it_is_not_used_for_as_long_as_it_is_kept() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::open(HubConfig::default(), home.path()).await.unwrap();
    let long = KeepAlive::For(Duration::from_secs(600));
    hub.chat(ask("hub-guide").keep_alive(Some(long))).await.unwrap().text().await.unwrap();
    let expires = hub.loaded()[0].expires_in_ms;
    assert!(expires.is_some_and(|ms| (1..=600_000).contains(&ms)), "{expires:?}");
    let soon = KeepAlive::For(Duration::from_millis(1));
    let reply = hub.chat(ask("hub-guide").keep_alive(Some(soon))).await.unwrap();
    assert_eq!(hub.loaded().len(), 1, "a model in use stays");
    reply.text().await.unwrap();
    empty(&hub).await;

    hub.chat(ask("hub-guide")).await.unwrap().text().await.unwrap();
    let loaded = hub.loaded();
    assert_eq!((loaded[0].requests, loaded[0].expires_in_ms), (1, None), "the settings say forever");
    assert!(loaded[0].decode_tokens_per_s.is_some_and(|rate| rate > 0.0));
    hub.unload("hub-guide").await.unwrap();
    empty(&hub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_is_waited_for() {
    let home = tempfile::tempdir().unwrap();
    let once = guide_bytes(home.path()).await;
    let hub =
        Hub::open(HubConfig::default().budget(Budget::Bytes(once + once / 2)), home.path()).await.unwrap();
    import_guide(&hub, home.path(), "other").await;
    for _ in 0..5 {
        for name in ["hub-guide", "other"] {
            hub.load(name, Task::Chat, None, ProgressSink::default()).await.unwrap();
            hub.unload(name).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_context_is_what_the_budget_holds() {
    let home = tempfile::tempdir().unwrap();
    let once = guide_bytes(home.path()).await;
    let hub = Hub::open(HubConfig::default(), home.path()).await.unwrap();
    let info = hub.details("hub-guide").await.unwrap().info;
    let room = info.state_bytes(info.context_tokens / 2);
    let hub = Hub::open(HubConfig::default().budget(Budget::Bytes(once + room)), home.path()).await.unwrap();
    hub.load("hub-guide", Task::Chat, None, ProgressSink::default()).await.unwrap();
    let context = hub.loaded()[0].context_tokens;
    assert!(context >= info.context_tokens / 2, "{context} of {}", info.context_tokens);
    assert!(context < info.context_tokens, "{context} of {}", info.context_tokens);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_keeps_what_the_files_say() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::open(HubConfig::default(), home.path()).await.unwrap();
    let folder = hub_fixtures::tiny_model("llama");
    let card = "---\nlanguage: [en, vi]\nlicense: apache-2.0\ntags: [code]\n---\n";
    std::fs::write(folder.path().join("README.md"), card).unwrap();
    import_llama(&hub, folder.path()).await.unwrap();
    let kept = hub.model("llama").await.unwrap();
    assert_eq!((kept.source.as_str(), kept.license.as_deref()), ("import", Some("apache-2.0")));
    assert_eq!(
        (kept.languages.as_slice(), kept.specialities.as_slice()),
        (&["en".to_owned(), "vi".to_owned()][..], &["code".to_owned()][..])
    );
    let file = &kept.files[0];
    assert_eq!((file.name.as_str(), file.sha256.len()), ("model.safetensors", 64));
    assert!(kept.disk_bytes > file.bytes && file.bytes > 0);
    assert!(kept.capabilities.contains(&"completion".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_answers_on_a_fresh_home() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::open(HubConfig::default(), home.path()).await.unwrap();
    let reply = hub.chat(ask("auto")).await.unwrap();
    assert_eq!(reply.model().as_str(), "hub-guide");
    let prompt_tokens = reply.prompt_tokens() as u64;
    assert!(!reply.text().await.unwrap().is_empty());

    hub.store().usage().flush().await;
    let summary = hub.store().usage().summary(0).await.unwrap();
    assert_eq!((summary.len(), summary[0].requests, summary[0].failed), (1, 1, 0));
    assert_eq!(summary[0].prompt_tokens, prompt_tokens);
    assert!((1..=4).contains(&summary[0].completion_tokens));
    hub.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_leaves_a_row() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::open(HubConfig::default(), home.path()).await.unwrap();
    drop(hub.chat(ask("hub-guide")).await.unwrap());
    hub.store().usage().flush().await;
    let summary = hub.store().usage().summary(0).await.unwrap();
    assert_eq!((summary[0].requests, summary[0].failed), (1, 1));
    hub.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_ask_one_load_runs() {
    let home = tempfile::tempdir().unwrap();
    let once = guide_bytes(home.path()).await;
    let hub = Hub::open(HubConfig::default(), home.path()).await.unwrap();
    let asking: Vec<_> = (0..16)
        .map(|_| {
            let hub = hub.clone();
            tokio::spawn(
                async move { hub.load("hub-guide", Task::Chat, None, ProgressSink::default()).await },
            )
        })
        .collect();
    for task in asking {
        task.await.unwrap().unwrap();
    }
    assert_eq!(hub.account().used_bytes(), once);
    assert_eq!(hub.loaded().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_is_too_small_is_refused_with_the_numbers() {
    let home = tempfile::tempdir().unwrap();
    let config = HubConfig::default().budget(Budget::Bytes(10));
    let hub = Hub::open(config, home.path()).await.unwrap();
    let error = hub.chat(ask("hub-guide")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        matches!(&error, Error::OverBudget { over, .. } if over.limit == 10 && over.asked > 10),
        "{error}"
    );
    // The failure is not remembered: the next caller is told afresh.
    assert!(hub.chat(ask("hub-guide")).await.is_err());
    assert_eq!(hub.account().used_bytes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_model_makes_room_and_a_busy_one_does_not() {
    let home = tempfile::tempdir().unwrap();
    let once = guide_bytes(home.path()).await;
    let config = HubConfig::default().budget(Budget::Bytes(once + once / 2));
    let hub = Hub::open(config, home.path()).await.unwrap();
    import_guide(&hub, home.path(), "other").await;

    let busy = hub.chat(ask("hub-guide")).await.unwrap();
    let error = hub.chat(ask("other")).await.unwrap_err();
    assert!(matches!(error, Error::OverBudget { .. }), "{error}");

    busy.text().await.unwrap();
    hub.chat(ask("other")).await.unwrap().text().await.unwrap();
    let loaded: Vec<_> = hub.loaded().into_iter().map(|model| model.name.to_string()).collect();
    assert_eq!(loaded, ["other"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_frees_too_little_stays() {
    let home = tempfile::tempdir().unwrap();
    let once = guide_bytes(home.path()).await;
    let config = HubConfig::default().budget(Budget::Bytes(once + once / 2));
    let hub = Hub::open(config, home.path()).await.unwrap();
    import_guide(&hub, home.path(), "other").await;
    let folder = hub_fixtures::tiny_model("llama");
    import_llama(&hub, folder.path()).await.unwrap();
    // The small one was used longest ago, and to unload it would not be enough.
    for name in ["llama", "hub-guide", "other"] {
        hub.load(name, Task::Chat, None, ProgressSink::default()).await.unwrap();
    }
    let loaded: Vec<_> = hub.loaded().into_iter().map(|model| model.name.to_string()).collect();
    assert_eq!(loaded, ["llama", "other"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_model_makes_room_for_a_conversation() {
    let home = tempfile::tempdir().unwrap();
    let once = guide_bytes(home.path()).await;
    let config = HubConfig::default().budget(Budget::Bytes(2 * once + 16));
    let hub = Hub::open(config, home.path()).await.unwrap();
    import_guide(&hub, home.path(), "other").await;
    hub.load("other", Task::Chat, None, ProgressSink::default()).await.unwrap();
    hub.load("hub-guide", Task::Chat, None, ProgressSink::default()).await.unwrap();
    assert_eq!(hub.loaded().len(), 2);
    hub.chat(ask("hub-guide")).await.unwrap().text().await.unwrap();
    assert_eq!(hub.loaded().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_helped_costs_nobody_their_model() {
    let home = tempfile::tempdir().unwrap();
    let once = guide_bytes(home.path()).await;
    let config = HubConfig::default().budget(Budget::Bytes(once + once / 2));
    let hub = Hub::open(config, home.path()).await.unwrap();
    import_guide(&hub, home.path(), "other").await;
    let _busy = hub.chat(ask("hub-guide")).await.unwrap();
    let error = hub.chat(ask("other")).await.unwrap_err();
    assert!(error.is_passing(), "the busy model will be idle: {error}");

    let hub = Hub::open(HubConfig::default().budget(Budget::Bytes(once / 2)), home.path()).await.unwrap();
    let error = hub.chat(ask("other")).await.unwrap_err();
    assert!(!error.is_passing() && !error.to_string().contains("wait"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_gone_are_named() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::open(HubConfig::default(), home.path()).await.unwrap();
    import_guide(&hub, home.path(), "other").await;
    let path = hub.model("other").await.unwrap().path.unwrap();
    std::fs::remove_file(&path).unwrap();
    for error in [hub.chat(ask("other")).await.unwrap_err(), hub.details("other").await.unwrap_err()] {
        assert!(matches!(&error, Error::Gone { name, .. } if name.as_str() == "other"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_fail_at_its_first_use_is_not_imported() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::open(HubConfig::default(), home.path()).await.unwrap();
    let damages: [(&str, &[u8]); 4] = [
        ("tokenizer.json", b"{}"),
        ("tokenizer_config.json", br#"{"chat_template": "{% for %}"}"#),
        ("generation_config.json", br#"{"num_beams": 4}"#),
        ("config.json", b"[]"),
    ];
    for (file, content) in damages {
        let folder = hub_fixtures::tiny_model("llama");
        std::fs::write(folder.path().join(file), content).unwrap();
        import_llama(&hub, folder.path()).await.expect_err(file);
    }
    let folder = hub_fixtures::tiny_model("llama");
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let error = import_llama(&hub, folder.path()).await.unwrap_err();
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
    assert_eq!(hub.models().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_still_runs_is_cut_off_by_the_shutdown() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::open(HubConfig::default(), home.path()).await.unwrap();
    let mut request = ask("hub-guide");
    request.options.max_tokens = Some(400);
    request.options.end = EndTokens::Ignore;
    let mut reply = hub.chat(request).await.unwrap();
    let reading = tokio::spawn(async move {
        let mut last = None;
        while let Some(delta) = reply.next().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
            last = Some(delta);
        }
        last
    });
    hub.shutdown(Duration::ZERO).await;
    assert!(matches!(reading.await.unwrap(), Some(Err(Error::ShuttingDown))));
    assert_eq!(hub.account().used_bytes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_takes_over_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    let mut config = HubConfig::default();
    config.aliases = toml::from_str("house = [\"broken\", \"hub-guide\"]").unwrap();
    let hub = Hub::open(config, home.path()).await.unwrap();
    import_guide(&hub, home.path(), "broken").await;
    std::fs::write(home.path().join("broken.gguf"), b"GGUF").unwrap();
    let reply = hub.chat(ask("house")).await.unwrap();
    assert_eq!(reply.model().as_str(), "hub-guide");
    assert!(reply.route().ends_with(", fallback"), "{}", reply.route());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_model_is_told_what_there_is() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::open(HubConfig::default(), home.path()).await.unwrap();
    for error in [hub.chat(ask("nope")).await.unwrap_err(), hub.model("nope").await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("hub-guide"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_imported_in_place_and_removed_without_its_files() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::open(HubConfig::default(), home.path()).await.unwrap();
    import_guide(&hub, home.path(), "mine").await;
    let file = home.path().join("mine.gguf");
    assert_eq!(hub.model("mine").await.unwrap().path, Some(std::path::absolute(&file).unwrap()));
    let taken = hub.import(&file, None, ProgressSink::default()).await.unwrap_err();
    assert!(matches!(taken, Error::Store(hub::store::Error::NameTaken { .. })), "{taken}");

    hub.chat(ask("mine")).await.unwrap().text().await.unwrap();
    hub.remove("mine").await.unwrap();
    assert!(file.exists());
    assert!(hub.loaded().is_empty());
    assert_eq!(hub.remove("mine").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(matches!(hub.remove("hub-guide").await.unwrap_err(), Error::Builtin { .. }));

    let name = ModelId::new("hub-guide").unwrap();
    assert!(matches!(
        hub.import(&file, Some(name), ProgressSink::default()).await.unwrap_err(),
        Error::ReservedName { .. }
    ));
    assert!(matches!(
        hub.import(&home.path().join("no"), None, ProgressSink::default()).await.unwrap_err(),
        Error::NoModelAt { .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shut_hub_takes_nothing_more() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::open(HubConfig::default(), home.path()).await.unwrap();
    hub.chat(ask("hub-guide")).await.unwrap().text().await.unwrap();
    hub.shutdown(Duration::from_secs(5)).await;
    assert!(hub.loaded().is_empty());
    assert_eq!(hub.chat(ask("hub-guide")).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_in_parts_is_imported_with_all_of_them() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::open(HubConfig::default(), home.path()).await.unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../hub-models/guide/hub-guide.gguf");
    let weights = Weights::open(Path::new(source)).unwrap();
    let tensors: Vec<_> =
        weights.names().map(|name| (name.to_owned(), weights.read(name).unwrap())).collect();
    let parts = tensors.split_at(tensors.len() / 2);
    let write = |number: u16, tensors| {
        let mut metadata = weights.metadata().clone();
        metadata.insert("split.no", number);
        metadata.insert("split.count", 2_u16);
        let path = home.path().join(format!("guide-{:05}-of-00002.gguf", number + 1));
        write_gguf(std::fs::File::create(&path).unwrap(), &metadata, tensors).unwrap();
        path
    };
    let paths = [write(0, parts.0), write(1, parts.1)];
    let imported = hub.import(&paths[1], None, ProgressSink::default()).await.unwrap();
    assert_eq!(imported.name.as_str(), "guide");
    assert_eq!(imported.files.len(), 2);
    let bytes = |path: &std::path::PathBuf| std::fs::metadata(path).unwrap().len();
    assert_eq!(imported.disk_bytes, paths.iter().map(bytes).sum::<u64>());
}
