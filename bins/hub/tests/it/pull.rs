use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use hub_fixtures::{Faults, Form, Registry};

use crate::{Hub, stderr};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// How long a part is, as files are cut.
const PART: usize = 8 << 20;

impl Hub {
    /// A command that knows no other registry than this one.
    pub(crate) fn at(&self, registry: &Registry, args: &[&str]) -> Command {
        let mut command = self.command(args);
        let hf_home = self.home().join("hf");
        command.env("HF_ENDPOINT", registry.url()).env("HF_HOME", hf_home);
        command.env("HUB_OLLAMA_REGISTRY", registry.url());
        command
    }
}

/// The guide model as a file of a repository, with so many bytes behind it that it takes several parts. What is behind
/// the last tensor is nobody's.
pub(crate) fn weights(extra: usize) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/hub-models/guide/hub-guide.gguf");
    let mut bytes = std::fs::read(path).unwrap();
    bytes.resize(bytes.len() + extra, 7);
    bytes
}

#[test]
fn a_model_is_pulled_listed_and_asked() {
    let registry = Registry::start();
    registry.repo(
        "org/Tiny-GGUF",
        COMMIT,
        &[("tiny-Q8_0.gguf", weights(0)), ("README.md", vec![b'x'; 9])],
        Form::Full,
    );
    let hub = Hub::new();
    let output = hub.at(&registry, &["pull", "hf:org/Tiny-GGUF"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let told = stderr(&output);
    assert!(told.contains("Q8_0") && told.contains("tiny-Q8_0.gguf: ") && !told.contains('\x1b'), "{told}");
    let list = hub.json(&["list", "--json"]);
    assert_eq!(list["models"][1]["name"], "tiny-Q8_0");
    assert!(list["models"][1]["path"].as_str().unwrap().contains("models--org--Tiny-GGUF/snapshots"));
    assert!(hub.works(&["run", "tiny-Q8_0", "How do I list my models?"]).contains("hub list"));
    // Once more changes nothing, with or without a network.
    let again = hub.at(&registry, &["pull", "hf:org/Tiny-GGUF"]).output().unwrap();
    assert!(again.status.success(), "{}", stderr(&again));
    let offline = hub.at(&registry, &["pull", "hf:org/Tiny-GGUF"]).env("HUB_OFFLINE", "1").output().unwrap();
    assert!(offline.status.success(), "{}", stderr(&offline));
    // The cache is shared with other programs, so nothing in it is deleted.
    let path = list["models"][1]["path"].as_str().unwrap();
    assert!(hub.works(&["rm", "tiny-Q8_0"]).contains("its files stay"));
    assert!(std::path::Path::new(path).exists());
    let missing = hub.at(&registry, &["pull", "ollama:other"]).env("HUB_OFFLINE", "1").output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("ollama:other:latest is not on this machine"), "{}", stderr(&missing));
}

/// How often a pull is killed.
const KILLS: usize = 20;
/// How many parts the pulls that are killed have, but for the last and shorter one.
const PARTS: usize = 20;
/// Over how many connections a file is fetched.
const CONNECTIONS: usize = 4;

/// Kills a pull over and over, lets it end, and checks what came in which run: the bytes of `at` (a path of the
/// registry), which end up as the file `blob`.
fn kill(hub: &Hub, registry: &Registry, source: &str, at: &str, blob: &Path, bytes: &[u8]) {
    registry.faults(Faults { slow: Some(100 << 20), ..Faults::default() });
    let pull = || hub.at(registry, &["pull", source]);
    let (mut runs, mut killed) = (Vec::new(), 0);
    for kill in 0..KILLS {
        let mut child = pull().stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        // Sooner and later: before a part is asked for, among the first four, and at the fifth, which is asked for once
        // one of those has arrived.
        let asked = [0, 1, 3, 2, 5][kill % 5];
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none()
            && registry.seen().iter().filter(|seen| seen.path == at).count() < asked
        {
            assert!(begun.elapsed() < Duration::from_secs(60), "nothing is asked for");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(kill as u64 * 13 % 40));
        // Fails if it has come to its end already.
        let _ = child.kill();
        killed += usize::from(!child.wait().unwrap().success());
        runs.push(parts_asked(registry, at));
    }
    let arrived = runs.iter().flatten().collect::<BTreeSet<_>>().len();
    assert!(killed > KILLS / 2 && arrived > CONNECTIONS, "{killed} kills, {runs:?}");
    registry.faults(Faults::default());
    let output = pull().output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    runs.push(parts_asked(registry, at));
    assert!(std::fs::read(blob).unwrap() == bytes, "the bytes are others");
    let folder = blob.parent().unwrap().read_dir().unwrap().flatten();
    let left: Vec<_> = folder.map(|file| file.file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.contains(".hub-")), "{left:?}");
    // After each kill, what comes again is at most the part that each connection was at.
    let mut known = BTreeSet::new();
    for asked in &runs {
        let again = asked.iter().filter(|part| known.contains(*part)).count();
        assert!(again <= CONNECTIONS, "{again} parts came again: {runs:?}");
        known.extend(asked.iter().copied());
    }
    assert_eq!(known.len(), bytes.len().div_ceil(PART), "{runs:?}");
}

/// Returns which parts of a file were asked for since the last time that this was called.
fn parts_asked(registry: &Registry, at: &str) -> BTreeSet<usize> {
    let seen = registry.take_seen();
    let ranges = seen.into_iter().filter(|seen| seen.path == at).filter_map(|seen| seen.range);
    ranges.map(|range| range.start / PART).collect()
}

#[test]
fn killed_pulls_from_hugging_face_end_with_the_right_bytes() {
    let registry = Registry::start();
    let bytes = weights(PARTS * PART);
    let name = "tiny-Q8_0.gguf";
    registry.repo("org/Tiny-GGUF", COMMIT, &[(name, bytes.clone())], Form::Full);
    // The digest of the weights is the name of their file, here and there.
    let digest = registry.digest(&bytes);
    let hub = Hub::new();
    let blob = hub.home().join("hf/hub/models--org--Tiny-GGUF/blobs").join(&digest);
    kill(&hub, &registry, "hf:org/Tiny-GGUF", &format!("/cdn/{digest}"), &blob, &bytes);
    assert!(hub.works(&["run", "tiny-Q8_0", "How do I list my models?"]).contains("hub list"));
}

#[test]
fn killed_pulls_from_ollama_end_with_the_right_bytes() {
    let registry = Registry::start();
    let bytes = weights(PARTS * PART);
    let digest = registry.ollama("library/tiny", "1b", &[("model", bytes.clone())]);
    let hub = Hub::new();
    let blobs = hub.home().join("models/ollama/blobs");
    let blob = blobs.join(format!("sha256-{digest}"));
    let at = format!("/v2/library/tiny/blobs/sha256:{digest}");
    kill(&hub, &registry, "ollama:tiny:1b", &at, &blob, &bytes);
    assert!(hub.works(&["run", "tiny:1b", "How do I list my models?"]).contains("hub list"));
    // Everything lies in the home, and goes with the model.
    assert!(hub.works(&["show", "tiny:1b"]).contains(&*hub.home().to_string_lossy()));
    assert!(hub.works(&["rm", "tiny:1b"]).contains("of files that the hub had for it are deleted"));
    assert_eq!(blobs.read_dir().unwrap().count(), 0);
}

#[test]
fn refusals_name_the_next_step() {
    let hub = Hub::new();
    hub.fails(&["pull", "qwen3"], 2, "error: \"qwen3\" names no source");
    hub.fails(
        &["pull", "https://example.org/m.gguf"],
        2,
        "error: https://example.org/m.gguf says nothing of what",
    );
    hub.fails(&["pull", "https://example.org/m.gguf", "--sha256", "12"], 2, "error: \"12\" is no SHA-256");
}
