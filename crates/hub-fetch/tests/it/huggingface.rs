use hub_base::{CancelToken, ErrorKind};
use hub_fetch::{Error, Event, Origin, Source, Stage};

use hub_fixtures::{Faults, Form, Registry};

use crate::{fetcher, noise, pull};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn folder() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", noise(300_000, 3)),
        ("1_Pooling/config.json", b"{\"pooling_mode_mean_tokens\":true}".to_vec()),
        ("model.safetensors", noise(20 << 20, 5)),
        ("pytorch_model.bin", noise(1_000, 7)),
    ]
}

#[test]
fn a_folder_lies_in_the_cache_as_python_would_put_it() {
    for form in [Form::Full, Form::Names] {
        let registry = Registry::start();
        registry.repo("org/tiny", COMMIT, &folder(), form);
        let home = tempfile::tempdir().unwrap();
        let fetched = pull(&fetcher(home.path(), &registry, |_| {}), "hf:org/tiny").unwrap();
        let repo = home.path().join("hf/hub/models--org--tiny");
        assert_eq!(fetched.path, repo.join("snapshots").join(COMMIT));
        assert_eq!(
            fetched.origin,
            Origin::HuggingFace { repo: "org/tiny".to_owned(), commit: COMMIT.to_owned() }
        );
        assert_eq!(std::fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
        for (name, bytes) in folder() {
            let path = fetched.path.join(name);
            if name == "pytorch_model.bin" {
                assert!(!path.exists());
                continue;
            }
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "{name}");
            // Elsewhere a link may be a privilege.
            if cfg!(unix) {
                let link = std::fs::read_link(&path).unwrap();
                assert!(link.starts_with("../../blobs") || link.starts_with("../../../blobs"), "{link:?}");
            }
        }
        let left: Vec<_> =
            std::fs::read_dir(repo.join("blobs")).unwrap().flatten().map(|file| file.file_name()).collect();
        assert_eq!(left.len(), 4, "nothing but blobs is left: {left:?}");

        // A second pull asks what there is, and fetches nothing.
        let sent = registry.sent();
        pull(&fetcher(home.path(), &registry, |_| {}), "hf:org/tiny").unwrap();
        assert!(registry.sent() - sent < 2_000);
    }
}

#[test]
fn a_kind_is_picked_and_told_why() {
    let registry = Registry::start();
    let files = [("m-Q4_K_M.gguf", noise(3_000, 1)), ("m-Q8_0.gguf", noise(6_000, 2))];
    registry.repo("org/m", COMMIT, &files, Form::Full);
    let home = tempfile::tempdir().unwrap();
    let any = fetcher(home.path(), &registry, |options| options.memory_bytes = Some(1 << 30));
    let plan = any.plan(&"hf:org/m".parse::<Source>().unwrap(), &CancelToken::new()).unwrap();
    assert_eq!((plan.files()[0].name.as_str(), plan.bytes()), ("m-Q4_K_M.gguf", 3_000));
    assert!(plan.reason().contains("Q4_K_M"), "{}", plan.reason());
    let fetched = pull(&any, "hf:org/m:q8_0").unwrap();
    assert!(fetched.path.ends_with("m-Q8_0.gguf"));
    assert!(fetched.digests[0].1.len() == 64);
    let missing = pull(&any, "hf:org/m:Q2_K").unwrap_err();
    assert_eq!(missing.to_string(), "org/m has no Q2_K; it has Q4_K_M, Q8_0");
}

#[test]
fn a_token_is_shown_to_the_hub_and_to_nobody_else() {
    let registry = Registry::start();
    registry.repo("org/gated", COMMIT, &[("m.gguf", noise(1 << 20, 1))], Form::Full);
    registry.faults(Faults { token: Some("hf_secret".to_owned()), ..Faults::default() });
    let home = tempfile::tempdir().unwrap();
    let refused = pull(&fetcher(home.path(), &registry, |_| {}), "hf:org/gated").unwrap_err();
    assert!(refused.to_string().contains("HF_TOKEN"), "{refused}");
    let wrong = fetcher(home.path(), &registry, |options| options.hf_token = Some("hf_wrong".to_owned()));
    let refused = pull(&wrong, "hf:org/gated").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    assert!(!format!("{refused} {refused:?}").contains("hf_wrong"), "a token is in no message");
    let right = fetcher(home.path(), &registry, |options| options.hf_token = Some("hf_secret".to_owned()));
    pull(&right, "hf:org/gated").unwrap();
    for seen in registry.seen().iter().filter(|seen| seen.host.starts_with("localhost")) {
        assert_eq!(seen.authorization, None, "{seen:?}");
    }
}

#[test]
fn offline_uses_what_is_here_and_opens_no_connection() {
    let registry = Registry::start();
    registry.repo("org/tiny", COMMIT, &folder(), Form::Full);
    let home = tempfile::tempdir().unwrap();
    let tiny = home.path().join("hf/hub/models--org--tiny/snapshots/main");
    let offline = fetcher(home.path(), &registry, |options| options.is_offline = true);
    let refused = pull(&offline, "hf:org/tiny").unwrap_err();
    assert_eq!(absent(refused), ("hf:org/tiny".to_owned(), tiny.clone()));
    let refused = pull(&offline, "hf:org/tiny/tiny.gguf").unwrap_err();
    assert_eq!(absent(refused), ("tiny.gguf of hf:org/tiny".to_owned(), tiny.join("tiny.gguf")));
    assert_eq!(registry.connections(), 0);
    let fetched = pull(&fetcher(home.path(), &registry, |_| {}), "hf:org/tiny").unwrap();
    let seen = registry.seen().len();
    assert_eq!(pull(&offline, "hf:org/tiny").unwrap().path, fetched.path);
    assert!(matches!(pull(&offline, "hf:org/tiny:Q4_0"), Err(Error::Offline { .. })));
    assert_eq!(registry.seen().len(), seen);
}

#[test]
fn what_is_copied_to_the_place_that_is_named_is_found() {
    let registry = Registry::start();
    let home = tempfile::tempdir().unwrap();
    let offline = fetcher(home.path(), &registry, |options| options.is_offline = true);
    let (_, place) = absent(pull(&offline, "hf:org/tiny/tiny-Q8_0.gguf").unwrap_err());
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(&place, noise(1 << 20, 1)).unwrap();
    assert_eq!(pull(&offline, "hf:org/tiny").unwrap().path, place);
    assert_eq!(registry.connections(), 0);
}

/// Takes the error for a file that would have to be fetched apart.
fn absent(error: Error) -> (String, std::path::PathBuf) {
    match error {
        Error::Offline { what, place: Some(place) } => (what, place),
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_not_there_is_said() {
    let registry = Registry::start();
    registry.repo("org/old", COMMIT, &[("pytorch_model.bin", noise(10, 1))], Form::Full);
    let home = tempfile::tempdir().unwrap();
    let fetcher = fetcher(home.path(), &registry, |_| {});
    assert!(matches!(pull(&fetcher, "hf:org/none"), Err(Error::NotFound { .. })));
    assert!(matches!(pull(&fetcher, "hf:org/old"), Err(Error::Pickle { .. })));
    assert!(!home.path().join("hf").exists(), "nothing was written");
}

#[test]
fn progress_grows_to_the_end() {
    let registry = Registry::start();
    registry.repo("org/m", COMMIT, &[("m.gguf", noise(30 << 20, 1))], Form::Full);
    registry.faults(Faults { slow: Some(40 << 20), ..Faults::default() });
    let home = tempfile::tempdir().unwrap();
    let fetcher = fetcher(home.path(), &registry, |_| {});
    let cancel = CancelToken::new();
    let plan = fetcher.plan(&"hf:org/m".parse().unwrap(), &cancel).unwrap();
    let events = std::sync::Mutex::new(Vec::new());
    let note = |event: Event<'_>| events.lock().unwrap().push((event.stage, event.done, event.bytes_per_s));
    fetcher.fetch(&plan, &note, &cancel).unwrap();
    let events = events.into_inner().unwrap();
    let fetching: Vec<_> = events.iter().filter(|(stage, ..)| *stage == Stage::Fetching).collect();
    assert!(fetching.len() > 2 && fetching.is_sorted_by_key(|(_, done, _)| *done), "{fetching:?}");
    assert!(fetching.last().unwrap().2 > 0.0, "a speed is told: {fetching:?}");
    assert_eq!(events.last().map(|(stage, done, _)| (*stage, *done)), Some((Stage::Done, 30 << 20)));
}
