//! The first hour with the hub, as a terminal shows it: `docs/first-hour.md` is what these commands print.
//!
//! `HUB_RECORD=1 cargo test -p hub-cli first_hour` writes the file anew; without it, what is printed now is compared
//! with what the file says.

use std::{fs, path::PathBuf, process::Command};

use hub_fixtures::{Form, Registry};

use crate::{Hub, pull::weights, serve::Server, stderr, stdout};

/// How much of an output must be as it was recorded.
#[derive(Clone, Copy)]
enum Alike {
    /// All but numbers.
    Shape,
    /// The first word of each line: the rest depends on the machine.
    Words,
    /// That there is some: a model wrote it.
    Some,
}

/// What is typed, what it prints, and how much of that stays.
struct Step {
    typed: String,
    printed: String,
    alike: Alike,
}

const HEAD: &str = "# The first hour\n\n\
    A recording of a terminal, made by a test that runs these commands on a machine without a card and compares what \
    they print with this page (`bins/hub/tests/it/first_hour.rs`). The repositories it pulls from are served by the test \
    itself, so their names lead nowhere; yours come from Hugging Face or the Ollama registry. `hub` is the program that \
    `cargo build --release --bin hub` leaves in `target/release`.\n";

fn page() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/first-hour.md"))
}

#[test]
fn the_first_hour_is_as_its_page_says() {
    let steps = hour();
    if std::env::var_os("HUB_RECORD").is_some() {
        let text = |step: &Step| format!("\n```console\n$ {}\n{}\n```\n", step.typed, step.printed);
        fs::write(page(), HEAD.to_owned() + &steps.iter().map(text).collect::<String>()).unwrap();
        return;
    }
    let recorded = fs::read_to_string(page()).unwrap();
    let recorded: Vec<&str> = recorded.split("```console\n$ ").skip(1).collect();
    assert_eq!(recorded.len(), steps.len(), "record the page again");
    for (step, recorded) in steps.iter().zip(recorded) {
        let recorded = recorded.split("\n```").next().unwrap_or_default();
        let (typed, printed) = recorded.split_once('\n').unwrap();
        assert_eq!(typed, step.typed);
        match step.alike {
            Alike::Shape => assert_eq!(shape(printed), shape(&step.printed), "{typed}"),
            Alike::Words => assert_eq!(words(printed), words(&step.printed), "{typed}"),
            Alike::Some => assert_eq!(printed.is_empty(), step.printed.is_empty(), "{typed}"),
        }
    }
}

/// Replaces every number, and every space beside one, which lines columns up.
fn shape(text: &str) -> String {
    let digits = text.replace(|c: char| c.is_ascii_digit() || c == '.' || c == ' ', "0");
    let mut shape = digits;
    while shape.contains("00") {
        shape = shape.replace("00", "0");
    }
    shape
}

fn words(text: &str) -> Vec<&str> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("->"));
    // A line of the doctor begins with a verdict, which is the machine's.
    let is_verdict = |word: &str| ["ok", "warning", "FAILURE"].contains(&word);
    lines.filter_map(|line| line.split_whitespace().find(|word| !is_verdict(word))).collect()
}

/// Runs the commands.
fn hour() -> Vec<Step> {
    let registry = Registry::start();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    registry.repo("example/Guide-GGUF", commit, &[("Guide-Q8_0.gguf", weights(0))], Form::Full);
    registry.repo("example/old", commit, &[("pytorch_model.bin", vec![1; 10])], Form::Full);
    let hub = Hub::new();
    let mut hour = Hour { hub: &hub, registry: &registry, steps: Vec::new() };
    hour.hub("hub --version", Alike::Shape);
    hour.hub("hub run hub-guide 'How do I import a model?'", Alike::Some);
    hour.hub("hub run hub-guide 'Làm sao để nhập mô hình?'", Alike::Some);
    hour.hub("hub pull hf:example/Guide-GGUF", Alike::Shape);
    hour.hub("hub list", Alike::Words);
    hour.hub(
        "hub bench Guide-Q8_0 --prompt-tokens 64 --gen-tokens 16 --parallel 1 --runs 3 --save",
        Alike::Words,
    );
    hour.hub("hub show Guide-Q8_0", Alike::Words);
    let server = Server::start(&hub, &[]);
    let listening = format!("listening on http://{}", server.address);
    hour.note("hub serve --port 0 &", listening, Alike::Shape);
    hour.curl(&server, "/v1/chat/completions", r#"{"model": "Guide-Q8_0", "max_tokens": 8, "messages": [{"role": "user", "content": "How do I list my models?"}]}"#);
    hour.hub("hub run Guide-Q8_0 'How do I list my models?'", Alike::Some);
    hour.hub("hub ps", Alike::Words);
    hour.hub("hub doctor", Alike::Words);
    hour.hub("hub run llama3.2 hi", Alike::Shape);
    hour.hub("hub pull hf:example/old", Alike::Shape);
    hour.hub("hub pull llama3.2", Alike::Shape);
    hour.hub("hub rm Guide-Q8_0", Alike::Words);
    hour.steps
}

struct Hour<'a> {
    hub: &'a Hub,
    registry: &'a Registry,
    steps: Vec<Step>,
}

impl Hour<'_> {
    /// Runs a line that begins with `hub`.
    fn hub(&mut self, typed: &str, alike: Alike) {
        let words: Vec<String> = split(typed);
        let args: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
        let output = self.hub.at(self.registry, &args).output().unwrap();
        let printed = stderr(&output) + &stdout(&output);
        self.note(typed, printed, alike);
    }

    /// Asks the server as `curl` does.
    fn curl(&mut self, server: &Server, path: &str, body: &str) {
        let url = format!("http://{}{path}", server.address);
        let args = ["-s", &url, "-H", "content-type: application/json", "-d", body];
        let printed = stdout(&Command::new("curl").args(args).output().unwrap());
        let typed =
            format!("curl -s http://127.0.0.1:PORT{path} -H 'content-type: application/json' -d '{body}'");
        self.note(&typed, printed, Alike::Some);
    }

    /// Adds a step, with what only this run knows under other names.
    fn note(&mut self, typed: &str, printed: String, alike: Alike) {
        let home = self.hub.home().to_string_lossy();
        let printed = printed.replace(home.as_ref(), "~/.local/share/ai-backend-hub");
        let printed = printed.replace(&self.registry.url(), "https://huggingface.co");
        let host = self.registry.url().trim_start_matches("http://").to_owned();
        let printed = printed.replace(&host, "huggingface.co");
        self.steps.push(Step { typed: typed.to_owned(), printed: printed.trim_end().to_owned(), alike });
    }
}

/// Splits a line into words as a shell does, of which some stand in quotes.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        match at % 2 {
            1 => words.push(part.to_owned()),
            _ => words.extend(part.split_whitespace().map(str::to_owned)),
        }
    }
    words
}
