use crate::{Hub, stderr, stdout};

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/hub-models/guide/hub-guide.gguf");

#[test]
fn a_fresh_hub_lists_and_shows_the_guide() {
    let hub = Hub::new();
    assert!(hub.works(&["list"]).contains("hub-guide  chat"));
    let list = hub.json(&["list", "--json"]);
    assert_eq!(list["models"][0]["name"], "hub-guide");
    let details = hub.json(&["show", "hub-guide", "--json"]);
    assert_eq!(details["info"]["task"], "chat");
    assert!(hub.works(&["show", "hub-guide"]).contains("with one sequence of"));
    assert!(!hub.works(&["show", "hub-guide", "--template"]).is_empty());
}

#[test]
fn a_prompt_is_an_argument_or_comes_through_a_pipe() {
    let hub = Hub::new();
    let answer =
        hub.works(&["run", "hub-guide", "--max-tokens", "4", "--temperature", "0", "How", "are", "you?"]);
    assert!(!answer.trim().is_empty());
    for args in [
        &["run", "hub-guide", "--json", "--max-tokens", "4", "--temperature", "0"][..],
        &["run", "hub-guide", "-", "--json", "--max-tokens", "4", "--temperature", "0"],
    ] {
        let output = hub.pipe(args, "How are you?");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(json["text"].as_str(), Some(answer.trim_end_matches('\n')));
        assert_eq!(json["model"], "hub-guide");
        assert!(json["usage"]["prompt_tokens"].as_u64() > Some(0));
    }
    hub.fails(&["run", "hub-guide"], 2, "error: no prompt");
}

#[test]
fn errors_are_one_line_with_the_next_step() {
    let hub = Hub::new();
    hub.fails(
        &["run", "nope", "hi"],
        1,
        "error: there is no model \"nope\"; installed: hub-guide; `hub pull SOURCE`",
    );
    hub.fails(
        &["show", "nope"],
        1,
        "error: there is no model `nope`; installed: hub-guide; `hub pull SOURCE`",
    );
    hub.fails(&["embed", "hi"], 1, "error: no installed model can embed");
    hub.fails(&["rm", "hub-guide"], 2, "error: hub-guide is part of this program");
    hub.fails(&["import", "/no/such/place"], 1, "error: there is no model at /no/such/place: ");
    hub.fails(&["ps"], 1, "error: no hub serves ");
    hub.fails(&["ps", "--url", "http://127.0.0.1:1"], 1, "error: http://127.0.0.1:1 does not answer");

    let output = hub.run(&["import", "/no/such/place", "-v"]);
    assert!(stderr(&output).contains("\n  because "), "{}", stderr(&output));
}

#[test]
fn mistakes_on_the_command_line_are_told_apart() {
    let hub = Hub::new();
    for args in [
        &["frobnicate"][..],
        &["list", "extra"],
        &["show"],
        &["serve", "--port", "many"],
        &["keys", "create", ""],
    ] {
        assert_eq!(hub.run(args).status.code(), Some(2), "{args:?}");
    }
    assert_eq!(hub.run(&["--help"]).status.code(), Some(0));
    assert_eq!(hub.run(&["--version"]).status.code(), Some(0));
}

#[test]
fn a_model_is_imported_used_and_forgotten() {
    let hub = Hub::new();
    let file = hub.home().join("mine.gguf");
    std::fs::copy(GUIDE, &file).unwrap();
    let path = file.to_str().unwrap();
    assert!(hub.works(&["import", path]).starts_with("mine can chat now"));
    assert_eq!(hub.json(&["import", path, "--name", "other", "--json"])["name"], "other");
    hub.fails(&["import", path], 2, "error: there is already a model named \"mine\"");
    assert_eq!(hub.json(&["list", "--json"])["models"].as_array().unwrap().len(), 3);
    assert!(!hub.works(&["run", "mine", "--max-tokens", "2", "hi"]).is_empty());
    hub.works(&["rm", "mine"]);
    assert!(file.exists());
    hub.fails(&["rm", "mine"], 1, "error: there is no model `mine`");
}

#[test]
fn a_key_is_shown_once_listed_and_revoked() {
    let hub = Hub::new();
    let made = hub.json(&["keys", "create", "laptop", "--json"]);
    let secret = made["key"].as_str().unwrap();
    assert!(secret.starts_with("hub_"));
    hub.fails(&["keys", "create", "laptop"], 2, "error: there is already a key named \"laptop\"");
    let list = hub.works(&["keys", "list", "--json"]);
    assert!(list.contains("laptop") && !list.contains(secret));
    assert!(hub.works(&["keys", "revoke", "laptop"]).starts_with("laptop ("));
    hub.fails(&["keys", "revoke", "laptop"], 1, "error: there is no key `laptop` to revoke");
}

#[test]
fn the_doctor_says_what_to_do() {
    let hub = Hub::new();
    // Another program may have the usual port.
    hub.configure("[server]\nport = 0\n");
    let told = hub.json(&["doctor", "--json"]);
    let names: Vec<&str> = told["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["name"].as_str().unwrap())
        .collect();
    for name in
        ["processor", "cores", "memory", "device", "disk", "server", "Hugging Face", "Ollama", "store"]
    {
        assert!(names.contains(&name), "{names:?}");
    }
    // An address for documentation: no machine has it.
    let output = hub.command(&["doctor"]).env("HUB_SERVER__HOST", "192.0.2.1").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("FAILURE server") && text.contains("-> set `server.host`"), "{text}");
}

#[test]
fn shells_are_told_how_to_complete() {
    let hub = Hub::new();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        assert!(hub.works(&["completions", shell]).contains("doctor"), "{shell}");
    }
}

#[test]
fn settings_show_their_origins_and_their_mistakes() {
    let hub = Hub::new();
    hub.configure("[server]\nport = 9000\n\n[aliases]\nsmall = \"hub-guide\"\n");
    let shown =
        hub.command(&["config", "show", "--json"]).env("HUB_MEMORY__BUDGET", "1GiB").output().unwrap();
    let shown: serde_json::Value = serde_json::from_str(&stdout(&shown)).unwrap();
    let find = |key: &str| {
        let entry = shown["settings"].as_array().unwrap().iter().find(|entry| entry["key"] == key).unwrap();
        (entry["value"].clone(), entry["origin"].as_str().unwrap().to_owned())
    };
    assert_eq!(find("server.port").0, 9_000);
    assert!(find("server.port").1.ends_with("hub.toml:2"));
    assert_eq!(find("memory.budget"), ("1GiB".into(), "HUB_MEMORY__BUDGET".into()));
    assert_eq!(find("server.host").1, "default");
    assert_eq!(find("aliases.small").0, "hub-guide");
    hub.works(&["config", "check"]);
    assert!(!hub.works(&["run", "small", "--max-tokens", "2", "hi"]).is_empty());

    hub.configure("[server]\nprot = 9000\n");
    let place = hub.home().join("hub.toml");
    let expected = format!("error: {}:2: there is no setting `server.prot`; did you mean", place.display());
    hub.fails(&["config", "check"], 1, &expected);
    hub.fails(&["list"], 1, &expected);
    assert_eq!(hub.works(&["config", "path"]).trim(), place.to_str().unwrap());
}

#[test]
fn a_benchmark_has_the_keys_that_others_read() {
    let hub = Hub::new();
    let args = [
        "bench",
        "hub-guide",
        "--runs",
        "1",
        "--prompt-tokens",
        "32",
        "--gen-tokens",
        "4",
        "--parallel",
        "1,2",
    ];
    let report = hub.json(&[&args[..], &["--threads", "1", "--json"]].concat());
    for key in [
        "/prefill/tokens_per_s",
        "/decode/tokens_per_s",
        "/batch/1/tokens_per_s",
        "/batch/2/tokens_per_s",
        "/first_token_ms",
        "/load_ms",
        "/peak_bytes",
        "/limits/read_bytes_per_s",
        "/limits/ops_per_s",
    ] {
        let spread = report.pointer(key).unwrap_or_else(|| panic!("{key} is missing"));
        let [median, min, max] = ["median", "min", "max"].map(|name| spread[name].as_f64().unwrap());
        assert!(0.0 < min && min <= median && median <= max, "{key}: {spread}");
    }
}

#[test]
fn packed_weights_are_kept_within_their_room_and_leave_with_their_model() {
    let hub = Hub::new();
    let file = hub.home().join("tiny.gguf");
    std::fs::copy(GUIDE, &file).unwrap();
    hub.works(&["import", &file.to_string_lossy(), "--name", "tiny"]);
    hub.works(&["import", &file.to_string_lossy(), "--name", "twin"]);
    let run = |room: &str| {
        let mut run = hub.command(&["run", "tiny", "hello", "--max-tokens", "1"]);
        let ran = run.env("HUB_MODELS__PACKED_CACHE", room).output().unwrap();
        assert!(ran.status.success(), "{}", stderr(&ran));
        hub.json(&["list", "--json"])["models"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|model| model["packed_bytes"].as_u64())
            .collect::<Vec<_>>()
    };
    assert!(run("0").is_empty(), "off unless chosen");
    assert!(run("1MiB").is_empty(), "what does not fit is not kept");
    let kept = run("1GiB");
    assert!(kept.len() == 2 && kept[0] == kept[1] && kept[0] > 1 << 20, "twins share it: {kept:?}");
    assert_eq!(run("1GiB"), kept);
    assert!(hub.works(&["list"]).contains("packed"));
    assert!(!hub.works(&["rm", "twin"]).contains("packed"), "tiny still needs it");
    assert!(hub.works(&["rm", "tiny"]).contains("of packed weights are deleted; its files stay"));
    assert_eq!(std::fs::read_dir(hub.home().join("packed")).unwrap().count(), 0);
}
