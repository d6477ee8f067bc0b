use std::{process::Command, time::Duration};

use hub_fixtures::{Faults, Form, Registry};

use crate::{Hub, stderr};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// How long a part is, as files are cut.
const PART: usize = 8 << 20;

impl Hub {
    /// A command that knows no other registry than this one.
    fn at(&self, registry: &Registry, args: &[&str]) -> Command {
        let mut command = self.command(args);
        let hf_home = self.home().join("hf");
        command.env("HF_ENDPOINT", registry.url()).env("HF_HOME", hf_home);
        command.env("HUB_OLLAMA_REGISTRY", registry.url());
        command
    }
}

/// The guide model as a file of a repository, with so many bytes behind it that it takes several parts. What is behind
/// the last tensor is nobody's.
fn weights(extra: usize) -> Vec<u8> {
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

#[test]
fn killed_pulls_end_with_the_right_bytes() {
    const KILLS: u64 = 20;
    let registry = Registry::start();
    let bytes = weights(4 * PART);
    let digest = registry.ollama("library/tiny", "1b", &[("model", bytes.clone())]);
    registry.faults(Faults { slow: Some(60 << 20), ..Faults::default() });
    let hub = Hub::new();
    let pull = || hub.at(&registry, &["pull", "ollama:tiny:1b"]);
    for kill in 0..KILLS {
        let mut child =
            pull().stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn().unwrap();
        // Sooner and later, in no order.
        std::thread::sleep(Duration::from_millis(20 + (kill * 7_919) % 180));
        // Fails if it has come to its end already.
        let _ = child.kill();
        child.wait().unwrap();
    }
    registry.faults(Faults::default());
    let output = pull().output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let blobs = hub.home().join("models/ollama/blobs");
    assert_eq!(std::fs::read(blobs.join(format!("sha256-{digest}"))).unwrap(), bytes);
    let left: Vec<_> =
        blobs.read_dir().unwrap().flatten().map(|file| file.file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.contains(".hub-")), "{left:?}");
    // A part for each of four connections may come again after each kill.
    let twice = registry.sent().saturating_sub(bytes.len());
    assert!(twice <= KILLS as usize * 4 * PART, "{twice}");
    assert!(hub.works(&["run", "tiny:1b", "How do I list my models?"]).contains("hub list"));
    // Everything lies in the home, and goes with the model.
    assert!(hub.works(&["show", "tiny:1b"]).contains(&*hub.home().to_string_lossy()));
    assert!(hub.works(&["rm", "tiny:1b"]).contains("that were pulled for it are deleted"));
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
