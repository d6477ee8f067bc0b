//! Chat templates against `transformers`: `fixtures/templates/make.py`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hub_models::chat::{Message, PromptEnd, RenderOptions, Role, Template, TemplateTokens};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The time that `make.py` renders at: 2026-03-05 07:08:09.
const NOW: Duration = Duration::from_secs(1_772_694_489);

/// Names the folder of llama.cpp, whose `models/templates` holds the templates of real models.
const LLAMA_CPP: &str = "HUB_TEST_LLAMA_CPP";

/// The template that is known to differ: Jinja2 escapes what it adds to a text marked as safe.
const DIFFERS: &str = "meetkai-functionary-medium-v3.1";

#[derive(Deserialize)]
struct Conversation {
    messages: Vec<Value>,
    tools: Option<Value>,
    #[serde(default)]
    kwargs: Map<String, Value>,
    end: Option<String>,
}

#[derive(Deserialize)]
struct Snippet {
    source: String,
    kwargs: Map<String, Value>,
}

#[derive(Deserialize)]
struct Expected {
    snippets: BTreeMap<String, String>,
    ours: BTreeMap<String, BTreeMap<String, String>>,
    real: BTreeMap<String, BTreeMap<String, String>>,
}

impl Conversation {
    fn options(&self) -> RenderOptions {
        let mut options = RenderOptions::new(now()).kwargs(self.kwargs.clone());
        if let Some(tools) = &self.tools {
            options = options.tools(tools.clone());
        }
        if self.end.as_deref() == Some("last-message") {
            options = options.end(PromptEnd::LastMessage);
        }
        options
    }

    /// Returns the messages as a caller writes them, where a caller can.
    fn messages(&self) -> Option<Vec<Message>> {
        self.messages.iter().map(message).collect()
    }
}

fn message(value: &Value) -> Option<Message> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let role: Role = serde_json::from_value(value["role"].clone()).unwrap();
    let mut message = Message::new(role, text("content")?);
    for name in value.as_object()?.keys() {
        message = match name.as_str() {
            "role" | "content" => message,
            "name" => message.name(text(name)?),
            "reasoning_content" => message.reasoning(text(name)?),
            _ => return None,
        };
    }
    Some(message)
}

fn now() -> SystemTime {
    UNIX_EPOCH + NOW
}

fn fixture<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&fs::read(folder().join(name)).unwrap()).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/templates")
}

fn compile(source: &str) -> Template {
    let tokens =
        [("bos_token", "<|bos|>"), ("eos_token", "<|eos|>"), ("unk_token", "<unk>"), ("pad_token", "<pad>")];
    Template::compile(source, TemplateTokens::new(tokens)).unwrap()
}

fn sources(folder: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let templates = files.filter(|path| path.extension().is_some_and(|extension| extension == "jinja"));
    let named = |path: PathBuf| {
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
    };
    templates.map(named).collect()
}

/// Renders as `transformers` does, and where the conversation can be written as messages, checks that it makes no
/// difference how it is handed over.
fn render(template: &Template, source: &str, conversation: &Conversation) -> Result<String, String> {
    let options = conversation.options();
    let text =
        template.render_values(conversation.messages.clone(), &options).map_err(|error| error.to_string())?;
    if let Some(messages) = conversation.messages() {
        let replaces_role =
            messages.iter().any(|message| message.role == Role::Developer) && !source.contains("developer");
        assert!(replaces_role || template.render(&messages, &options).as_ref() == Ok(&text));
    }
    Ok(text)
}

#[test]
fn each_feature_renders_as_in_transformers() {
    let expected: Expected = fixture("expected.json");
    let snippets: BTreeMap<String, Snippet> = fixture("snippets.json");
    let messages = || {
        vec![json!({"role": "user", "content": "<a> & 'b'"}), json!({"role": "assistant", "content": "Huế"})]
    };
    assert_eq!(snippets.len(), expected.snippets.len());
    for (name, snippet) in snippets {
        let options = RenderOptions::new(now()).kwargs(snippet.kwargs);
        let text = compile(&snippet.source).render_values(messages(), &options);
        assert_eq!(text.as_ref(), Ok(&expected.snippets[&name]), "{name}");
    }
}

/// The features that the engine lacks as it comes: without what was added, each of these snippets fails or differs.
#[test]
fn the_engine_alone_renders_these_otherwise() {
    let expected: Expected = fixture("expected.json");
    let snippets: BTreeMap<String, Snippet> = fixture("snippets.json");
    for name in [
        "methods",
        "more-methods",
        "tojson",
        "tojson-indent",
        "tojson-arguments",
        "text-of-numbers",
        "text-of-containers",
        "joined-texts",
        "string-filter",
        "none-is-not-iterable",
        "sequences",
        "generation",
        "generation-marks",
        "indent",
        "strftime",
        "trim-blocks",
    ] {
        let context = minijinja::value::Serde(&snippets[name].kwargs);
        let alone = minijinja::Environment::new().render_str(&snippets[name].source, context);
        assert_ne!(alone.ok().as_ref(), Some(&expected.snippets[name]), "{name}");
    }
}

#[test]
fn our_templates_render_as_in_transformers() {
    let expected: Expected = fixture("expected.json");
    let conversations: BTreeMap<String, Conversation> = fixture("conversations.json");
    let sources = sources(&folder().join("ours"));
    assert_eq!(sources.len(), expected.ours.len());
    for (name, source) in sources {
        let template = compile(&source);
        for (case, expected) in &expected.ours[&name] {
            let text = render(&template, &source, &conversations[case]);
            assert_eq!(text.as_ref(), Ok(expected), "{name}, {case}");
        }
    }
}

#[test]
fn real_templates_render_as_in_transformers() {
    let Some(llama_cpp) = std::env::var_os(LLAMA_CPP) else {
        println!("skipped: {LLAMA_CPP} does not name the folder of llama.cpp");
        return;
    };
    let expected: Expected = fixture("expected.json");
    let conversations: BTreeMap<String, Conversation> = fixture("conversations.json");
    let sources = sources(&Path::new(&llama_cpp).join("models/templates"));
    assert_eq!(sources.len(), 70, "{LLAMA_CPP} holds another version of llama.cpp");
    let mut different = Vec::new();
    for (name, source) in sources.iter().filter(|(name, _)| *name != DIFFERS) {
        let template = compile(source);
        for (case, expected) in &expected.real[name] {
            let text = render(&template, source, &conversations[case]);
            if text.as_ref().map(|text| digest(text)).as_ref() != Ok(expected) {
                different.push(format!("{name}, {case}: {text:?}"));
            }
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
