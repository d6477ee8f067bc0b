//! `hub quantize`, as a shell sees it.

use std::{fs, path::Path};

use crate::Hub;

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/models/gguf/qwen3.gguf");

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_model_is_made_smaller_and_answers() {
    let hub = Hub::new();
    let told = hub.works(&["quantize", "hub-guide", "--to", "q4_k_m", "--requantize"]);
    assert!(told.starts_with("hub-guide-Q4_K_M can chat now (Q4_K_M: "), "{told}");
    assert!(told.contains("note: ") && told.contains("lost a second time"), "{told}");
    let details = hub.json(&["show", "hub-guide-Q4_K_M", "--json"]);
    assert_eq!(
        (details["info"]["mix"].as_str(), details["family"].as_str()),
        (Some("Q4_K_M"), Some("llama"))
    );
    assert!(details["info"]["weight_kinds"]["Q6_K"].as_u64() > Some(0), "{details}");
    let answer =
        hub.works(&["run", "hub-guide-Q4_K_M", "--max-tokens", "8", "--temperature", "0", "How do I start?"]);
    assert!(!answer.trim().is_empty());
    assert_eq!(names_in(&hub.home().join("quantized")), ["hub-guide-Q4_K_M.gguf"]);

    hub.fails(
        &["quantize", "hub-guide", "--to", "q4_k_m", "--requantize"],
        2,
        &format!("error: {} is there already", hub.home().join("quantized/hub-guide-Q4_K_M.gguf").display()),
    );
    hub.works(&["quantize", "hub-guide", "--to", "Q4_K_M", "--requantize", "--overwrite"]);
    assert!(hub.works(&["rm", "hub-guide-Q4_K_M"]).contains("of files that the hub had for it are deleted"));
    assert!(names_in(&hub.home().join("quantized")).is_empty());
}

#[test]
fn a_file_is_written_where_one_is_asked_for() {
    let hub = Hub::new();
    let (from, to) = (hub.home().join("tiny.gguf"), hub.home().join("small.gguf"));
    fs::copy(TINY, &from).unwrap();
    let [from, to] = [&from, &to].map(|path| path.to_str().unwrap());
    let report = hub.json(&["quantize", from, "--to", "q5_k_m", "--output", to, "--json"]);
    assert_eq!((report["mix"].as_str(), report["path"].as_str()), (Some("Q5_K_M"), Some(to)));
    assert!(report["model"].is_null() && report["bytes"].as_u64() < report["source_bytes"].as_u64());
    assert!(
        report["notes"][0].as_str().unwrap().contains("instead of Q5_K, whose blocks of 256"),
        "{report}"
    );
    assert_eq!(hub.json(&["list", "--json"])["models"].as_array().unwrap().len(), 1);
    hub.works(&["import", to, "--name", "small"]);
    hub.works(&["run", "small", "--max-tokens", "2", "hi"]);

    // A smaller kind of a smaller kind is refused, and what is there stays.
    let size = fs::metadata(to).unwrap().len();
    hub.fails(
        &["quantize", to, "--to", "q4_0", "--output", from],
        2,
        "error: blk.0.ffn_down.weight is Q5_1 already",
    );
    hub.fails(
        &["quantize", from, "--to", "q4_0", "--output", to],
        2,
        &format!("error: {to} is there already"),
    );
    hub.fails(
        &["quantize", from, "--to", "q4_0", "--output", from, "--overwrite"],
        2,
        &format!("error: {from} is what the weights are read from"),
    );
    assert_eq!(fs::metadata(to).unwrap().len(), size);
    // What is no GGUF file was named by mistake.
    let other = hub.home().join("notes.txt");
    fs::write(&other, "mine").unwrap();
    let other = other.to_str().unwrap();
    hub.fails(
        &["quantize", from, "--to", "q4_0", "--output", other, "--overwrite"],
        2,
        &format!("error: {other} is there, and is no GGUF file"),
    );
    assert_eq!(fs::read_to_string(other).unwrap(), "mine");
}

#[test]
fn the_best_kind_for_this_machine_is_named() {
    let hub = Hub::new();
    let told = hub.works(&["quantize", "hub-guide"]);
    assert!(told.starts_with("KIND    FILE") && told.contains("quantized already"), "{told}");
    let told = hub.works(&["quantize", TINY]);
    assert!(
        told.contains("best here") && told.contains(&format!("`hub quantize {TINY} --to q8_0` writes")),
        "{told}"
    );
    hub.configure("[memory]\nbudget = \"12MiB\"\n");
    let told = hub.works(&["quantize", "hub-guide"]);
    assert!(told.contains("`hub quantize hub-guide --to q4_k_m --requantize` writes it"), "{told}");
    let choices = hub.json(&["quantize", "hub-guide", "--json"]);
    let fits: Vec<bool> = choices["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| choice["fits"].as_bool().unwrap())
        .collect();
    assert!(!fits[0] && fits.is_sorted(), "{choices}");
    hub.configure("[memory]\nbudget = \"1MiB\"\n");
    assert!(hub.works(&["quantize", "hub-guide"]).contains("even Q4_0 takes"));
    assert!(!hub.home().join("quantized").exists(), "nothing is written");
}

#[test]
fn what_cannot_be_quantized_says_what_to_do() {
    let hub = Hub::new();
    hub.fails(&["quantize", "nope", "--to", "q4_0"], 1, "error: there is no model `nope`");
    hub.fails(
        &["quantize", "hub-guide", "--to", "q3"],
        2,
        "error: \"q3\" is no kind to quantize to: use one of F16, Q8_0",
    );
    hub.fails(&["quantize", "hub-guide", "--to", "q4_0"], 2, "error: token_embd.weight is Q8_0 already");
    for (name, content) in [("cut.gguf", &fs::read(TINY).unwrap()[..5_000]), ("none.gguf", b"something else")]
    {
        let path = hub.home().join(name);
        fs::write(&path, content).unwrap();
        hub.fails(
            &["quantize", path.to_str().unwrap(), "--to", "q4_0"],
            1,
            &format!("error: {}", path.display()),
        );
    }
    assert!(!hub.home().join("quantized").exists() || names_in(&hub.home().join("quantized")).is_empty());
}
