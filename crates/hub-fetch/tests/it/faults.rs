use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use hub_base::CancelToken;
use hub_fetch::{Error, Event, Fetched, Fetcher, Stage};

use hub_fixtures::{Faults, Registry};

use crate::{fetcher, noise, pull};

/// How long a part is, as the crate cuts files.
const PART: usize = 8 << 20;
const LEN: usize = 8 * PART + 12_345;

/// A model of several parts, and its bytes.
fn model() -> (Registry, Vec<u8>) {
    model_of(LEN)
}

/// A model of one part, and its bytes.
fn small() -> (Registry, Vec<u8>) {
    model_of(100_000)
}

fn model_of(len: usize) -> (Registry, Vec<u8>) {
    let registry = Registry::start();
    let bytes = noise(len, 11);
    registry.ollama("library/m", "latest", &[("model", bytes.clone())]);
    (registry, bytes)
}

/// Pulls, and gives up after about so many bytes.
fn pull_until(fetcher: &Fetcher, bytes: u64) -> Result<Fetched, Error> {
    let cancel = CancelToken::new();
    let plan = fetcher.plan(&"ollama:m".parse()?, &cancel)?;
    let begun = AtomicU64::new(u64::MAX);
    let stop = |event: Event<'_>| {
        if event.file == "model" && event.stage == Stage::Fetching {
            let begun = begun.fetch_min(event.done, Ordering::Relaxed).min(event.done);
            if event.done - begun >= bytes {
                cancel.cancel();
            }
        }
    };
    fetcher.fetch(&plan, &stop, &cancel)
}

#[test]
fn broken_connections_are_gone_on_with() {
    let (registry, bytes) = model();
    registry.faults(Faults { cut_after: Some(3 << 20), ..Faults::default() });
    let home = tempfile::tempdir().unwrap();
    let fetched = pull(&fetcher(home.path(), &registry, |_| {}), "ollama:m").unwrap();
    assert_eq!(std::fs::read(fetched.path).unwrap(), bytes);
    assert!(registry.sent() < LEN + 100_000, "nothing came twice");
}

#[test]
fn a_run_that_was_stopped_is_gone_on_with() {
    let (registry, bytes) = model();
    registry.faults(Faults { slow: Some(200 << 20), ..Faults::default() });
    let home = tempfile::tempdir().unwrap();
    let fetcher = fetcher(home.path(), &registry, |options| options.connections = 2);
    let stops = 2;
    for _ in 0..stops {
        // Two and a half parts: some are whole by then, and two are not.
        let stopped = pull_until(&fetcher, 20 << 20);
        assert!(matches!(stopped, Err(Error::Cancelled)), "{stopped:?}");
        let visible = home.path().join("models/ollama/blobs").read_dir().unwrap().flatten();
        let visible: Vec<_> = visible.map(|file| file.file_name().into_string().unwrap()).collect();
        assert!(visible.iter().all(|name| name.contains(".hub-") || name.ends_with(".lock")), "{visible:?}");
    }
    let fetched = pull(&fetcher, "ollama:m").unwrap();
    assert_eq!(std::fs::read(fetched.path).unwrap(), bytes);
    let twice = registry.sent().saturating_sub(LEN);
    assert!(twice <= stops * 2 * PART, "{twice} bytes came twice in {stops} stops");
}

#[test]
fn a_tired_server_is_waited_for() {
    let (registry, bytes) = model();
    registry.faults(Faults { tired: 3, ..Faults::default() });
    let home = tempfile::tempdir().unwrap();
    let fetched = pull(&fetcher(home.path(), &registry, |_| {}), "ollama:m").unwrap();
    assert_eq!(std::fs::read(fetched.path).unwrap(), bytes);
    registry.faults(Faults { tired: 1_000, ..Faults::default() });
    let home = tempfile::tempdir().unwrap();
    let error = pull(&fetcher(home.path(), &registry, |_| {}), "ollama:m").unwrap_err();
    assert!(matches!(error, Error::Overloaded { status: 429, .. }), "{error}");
}

#[test]
fn a_server_that_says_when_is_asked_no_sooner() {
    let (registry, _) = small();
    registry.faults(Faults { tired: 1, retry_after_s: 1, ..Faults::default() });
    let home = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    pull(&fetcher(home.path(), &registry, |_| {}), "ollama:m").unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn a_server_that_is_ill_is_asked_again() {
    let (registry, bytes) = small();
    registry.faults(Faults { ill: 2, ..Faults::default() });
    let home = tempfile::tempdir().unwrap();
    let fetched = pull(&fetcher(home.path(), &registry, |_| {}), "ollama:m").unwrap();
    assert_eq!(std::fs::read(fetched.path).unwrap(), bytes);
}

#[test]
fn a_registry_that_wants_a_token_is_shown_the_one_it_hands_out() {
    let (registry, bytes) = small();
    registry.faults(Faults { challenge: Some("t0ken".to_owned()), ..Faults::default() });
    let home = tempfile::tempdir().unwrap();
    let fetched = pull(&fetcher(home.path(), &registry, |_| {}), "ollama:m").unwrap();
    assert_eq!(std::fs::read(fetched.path).unwrap(), bytes);
    assert_eq!(registry.seen().iter().filter(|seen| seen.path == "/token").count(), 1);
}

#[test]
fn addresses_that_lead_in_a_circle_are_left() {
    let registry = Registry::start();
    registry.repo("o/m", "c0ffee", &[("m.gguf", noise(100_000, 3))], hub_fixtures::Form::Full);
    let home = tempfile::tempdir().unwrap();
    let fetcher = fetcher(home.path(), &registry, |_| {});
    let cancel = CancelToken::new();
    let plan = fetcher.plan(&"hf:o/m".parse().unwrap(), &cancel).unwrap();
    registry.faults(Faults { circles: true, ..Faults::default() });
    let error = fetcher.fetch(&plan, &|_| {}, &cancel).unwrap_err();
    assert!(matches!(error, Error::Network { .. }), "{error}");
    registry.faults(Faults::default());
    fetcher.fetch(&plan, &|_| {}, &cancel).unwrap();
}

#[test]
fn a_manifest_or_a_listing_that_breaks_off_is_asked_for_again() {
    let (registry, bytes) = small();
    registry.repo("o/m", "c0ffee", &[("m.gguf", bytes.clone())], hub_fixtures::Form::Full);
    for source in ["ollama:m", "hf:o/m"] {
        registry.faults(Faults { broken: 2, ..Faults::default() });
        let home = tempfile::tempdir().unwrap();
        let fetched = pull(&fetcher(home.path(), &registry, |_| {}), source).unwrap();
        assert_eq!(std::fs::read(fetched.path).unwrap(), bytes, "{source}");
    }
}

#[test]
fn an_answer_that_breaks_off_is_no_model() {
    let (registry, _) = small();
    registry.faults(Faults { cut_after: Some(10), ..Faults::default() });
    let home = tempfile::tempdir().unwrap();
    let error = pull(&fetcher(home.path(), &registry, |_| {}), "ollama:m").unwrap_err();
    assert!(matches!(error, Error::Network { .. }), "{error}");
    assert!(!home.path().join("models").exists(), "nothing was written");
}

#[test]
fn a_server_without_ranges_sends_the_whole() {
    let (registry, bytes) = model();
    registry.faults(Faults { no_ranges: true, ..Faults::default() });
    let home = tempfile::tempdir().unwrap();
    let fetched = pull(&fetcher(home.path(), &registry, |_| {}), "ollama:m").unwrap();
    assert_eq!(std::fs::read(fetched.path).unwrap(), bytes);
}

#[test]
fn lies_are_not_believed() {
    let (registry, _) = model();
    let home = tempfile::tempdir().unwrap();
    registry.faults(Faults { wrong_total: true, ..Faults::default() });
    let error = pull(&fetcher(home.path(), &registry, |_| {}), "ollama:m").unwrap_err();
    assert!(matches!(error, Error::Answer { .. }), "{error}");
    registry.faults(Faults { wrong_start: true, ..Faults::default() });
    let error = pull(&fetcher(home.path(), &registry, |_| {}), "ollama:m").unwrap_err();
    assert!(matches!(error, Error::Answer { .. }), "{error}");

    let registry = Registry::start();
    registry.repo("o/m", "c0ffee", &[("m.gguf", noise(LEN, 3))], hub_fixtures::Form::Full);
    // The listing is a file too; what is flipped in it is a bracket.
    let flipping = fetcher(home.path(), &registry, |_| {});
    let cancel = CancelToken::new();
    let plan = flipping.plan(&"hf:o/m".parse().unwrap(), &cancel).unwrap();
    registry.faults(Faults { flips: true, ..Faults::default() });
    let error = flipping.fetch(&plan, &|_| {}, &cancel).unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    assert!(!home.path().join("hf/hub/models--o--m/snapshots").exists());
    registry.faults(Faults::default());
    flipping.fetch(&plan, &|_| {}, &cancel).unwrap();
}

#[test]
fn two_pulls_at_once_fetch_once() {
    let (registry, bytes) = model();
    let home = tempfile::tempdir().unwrap();
    let fetcher = fetcher(home.path(), &registry, |_| {});
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..4).map(|_| scope.spawn(|| pull(&fetcher, "ollama:m").unwrap())).collect();
        for pull in pulls {
            assert_eq!(std::fs::read(pull.join().unwrap().path).unwrap(), bytes);
        }
    });
    assert!(registry.sent() < LEN + 100_000);
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let (registry, _) = model();
    let home = tempfile::tempdir().unwrap();
    // Port 9 discards, and nobody listens.
    let nowhere =
        fetcher(home.path(), &registry, |options| options.ollama_registry = "http://127.0.0.1:9".to_owned());
    let error = pull(&nowhere, "ollama:m").unwrap_err();
    assert!(error.to_string().starts_with("127.0.0.1:9 cannot be reached"), "{error}");
}
