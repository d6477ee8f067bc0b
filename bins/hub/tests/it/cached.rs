//! Models that other programs have fetched, used where they lie.

use std::{fs, path::Path, process::Command};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{Hub, stderr, stdout};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn guide() -> Vec<u8> {
    fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/hub-models/guide/hub-guide.gguf")).unwrap()
}

/// Makes what Ollama keeps of a model: a manifest, and blobs named by their digests.
fn ollama_cache(models: &Path, name: &str, layers: &[(&str, &[u8])]) {
    let blobs = models.join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let layer = |(word, bytes): &(&str, &[u8])| {
        let digits: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(blobs.join(format!("sha256-{digits}")), bytes).unwrap();
        let media_type = format!("application/vnd.ollama.image.{word}");
        json!({ "mediaType": media_type, "digest": format!("sha256:{digits}"), "size": bytes.len() })
    };
    let manifest = json!({ "config": layer(&("config", b"{}")), "layers": layers.iter().map(layer).collect::<Vec<_>>() });
    let manifests = models.join("manifests/registry.ollama.ai/library").join(name);
    fs::create_dir_all(&manifests).unwrap();
    fs::write(manifests.join("latest"), manifest.to_string()).unwrap();
}

/// A command beside Ollama's models and a Hugging Face cache.
fn beside(hub: &Hub, args: &[&str]) -> Command {
    let mut command = hub.command(args);
    command.env("OLLAMA_MODELS", hub.home().join("ollama")).env("HF_HOME", hub.home().join("hf"));
    command.env("HUB_OFFLINE", "1");
    command
}

#[test]
fn a_model_of_ollama_is_used_where_it_lies_with_what_came_with_it() {
    let hub = Hub::new();
    let params = br#"{"temperature": 0, "num_predict": 3, "num_ctx": 4096}"#;
    let layers: [(&str, &[u8]); 5] = [
        ("model", &guide()),
        ("params", params),
        ("system", b"You are Kim."),
        ("license", b"\nApache License\nVersion 2.0"),
        ("template", b"{{ .Prompt }}"),
    ];
    ollama_cache(&hub.home().join("ollama"), "tiny", &layers);
    let imported = beside(&hub, &["import", "ollama:tiny"]).output().unwrap();
    assert!(imported.status.success(), "{}", stderr(&imported));
    let told = stdout(&imported);
    assert!(told.starts_with("tiny can chat now; its files stay where they are"), "{told}");
    assert!(!told.contains("note"), "the file has a template of its own: {told}");

    let shown = hub.works(&["show", "tiny"]);
    for part in
        ["ollama:tiny:latest", "You are Kim.", "MIT OR Apache-2.0", "temperature 0.000", "/ollama/blobs/"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let answer = hub.json(&["run", "--json", "tiny", "How do I list my models?"]);
    assert_eq!(answer["usage"]["completion_tokens"], 3, "what came with it holds: {answer}");
    let longer = hub.json(&["run", "--json", "--max-tokens", "5", "tiny", "How do I list my models?"]);
    assert_eq!(longer["usage"]["completion_tokens"], 5, "what is asked goes before: {longer}");
    let blob = hub.json(&["list", "--json"])["models"][1]["path"].as_str().unwrap().to_owned();
    hub.works(&["rm", "tiny"]);
    assert!(Path::new(&blob).exists());
}

#[test]
fn a_model_of_hugging_faces_cache_is_found_by_its_name() {
    let hub = Hub::new();
    let repo = hub.home().join("hf/hub/models--org--Tiny-GGUF");
    let snapshot = repo.join("snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repo.join("refs")).unwrap();
    fs::write(repo.join("refs/main"), COMMIT).unwrap();
    fs::write(snapshot.join("tiny-Q8_0.gguf"), guide()).unwrap();
    let imported = beside(&hub, &["import", "hf:org/Tiny-GGUF", "--name", "tiny"]).output().unwrap();
    assert!(imported.status.success(), "{}", stderr(&imported));
    let list = hub.json(&["list", "--json"]);
    assert_eq!(list["models"][1]["source"], format!("hf:org/Tiny-GGUF@{COMMIT}"));
    assert_eq!(list["models"][1]["disk_bytes"], guide().len());

    let missing = beside(&hub, &["import", "hf:org/other"]).output().unwrap();
    let told = stderr(&missing);
    assert!(told.contains("hf:org/other is in no cache") && told.contains("hf:org/Tiny-GGUF"), "{told}");
}
