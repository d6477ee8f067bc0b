//! What a language model answers as text.

use std::path::Path;

use hub_models::{
    ChatPrompt, Delta, EndTokens, Error, GenerateOptions, LoadOptions, Preset, Prompt, TextModel,
    chat::{Message, known_template},
};
use hub_nn::{
    tokens::SkipSpecial,
    weights::{Metadata, RawTensor, Weights, write_gguf},
};

/// The tokenizers of most of these put a space before every text, and words carry theirs.
#[test]
fn an_answer_that_goes_on_with_a_text_keeps_its_first_space() {
    for name in ["llama", "codellama", "mistral", "gemma2", "qwen2"] {
        let folder = hub_fixtures::tiny_model(name);
        let model = TextModel::open(folder.path(), LoadOptions::default()).unwrap();
        let vocab = u32::try_from(model.info().vocab_size).unwrap();
        let is_word = |id: &u32| {
            let bytes = model.tokenizer().token_bytes(*id);
            bytes.starts_with(b" ") && bytes.get(1).is_some_and(u8::is_ascii_alphabetic)
        };
        let id = (0..vocab).find(is_word).unwrap();
        let word = String::from_utf8(model.tokenizer().token_bytes(id)).unwrap();
        let ask = |prompt: Prompt| {
            let mut options = GenerateOptions::default().greedy().max_tokens(3);
            options.sampling.logit_bias = vec![(id, 100.0)];
            model.generate(prompt, options).unwrap().text().unwrap()
        };
        let tokens = model.prepare(&Prompt::Text("xin chào".to_owned())).unwrap().tokens().to_vec();
        for prompt in [Prompt::Text("The capital is".to_owned()), Prompt::Tokens(tokens)] {
            assert_eq!(ask(prompt), word.repeat(3), "{name}");
        }
        // An answer of its own begins without one, where the tokenizer would have put one before it.
        if model.info().has_chat_template && matches!(name, "llama" | "codellama" | "mistral") {
            let chat = Prompt::Chat(ChatPrompt::new(vec![Message::user("hi")]));
            assert_eq!(ask(chat), word.repeat(3).trim_start(), "{name}");
        }
    }
}

/// Gives a tiny model a template, and opens it.
fn with_template(name: &str, template: &str) -> (tempfile::TempDir, TextModel) {
    let folder = hub_fixtures::tiny_model(name);
    let path = folder.path().join("tokenizer_config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["chat_template"] = template.into();
    std::fs::write(&path, config.to_string()).unwrap();
    // A template of its own file would win.
    let _ = std::fs::remove_file(folder.path().join("chat_template.jinja"));
    let model = TextModel::open(folder.path(), LoadOptions::default()).unwrap();
    (folder, model)
}

#[test]
fn control_tokens_that_are_typed_stay_text() {
    for name in ["llama", "gemma2", "qwen2", "llama31", "phi4"] {
        let (_folder, model) =
            with_template(name, "{% for m in messages %}{{ eos_token }}{{ m.content }}{% endfor %}");
        let tokenizer = model.tokenizer();
        let controls: Vec<String> = tokenizer.special_texts().filter(|text| text.len() > 1).collect();
        assert!(!controls.is_empty(), "{name}");
        let typed = format!("a {} b", controls.join(" "));
        let messages = vec![Message::user(typed.clone()), Message::assistant(typed.clone())];
        let prepared = model.prepare(&Prompt::Chat(ChatPrompt::new(messages))).unwrap();
        let special = prepared.tokens().iter().filter(|id| tokenizer.is_special(**id)).count();
        assert_eq!(special, 2, "{name}: those that the template wrote and no others");
        let read = tokenizer.decode(prepared.tokens(), SkipSpecial::Yes).replace(' ', "");
        assert_eq!(read, typed.replace(' ', "").repeat(2), "{name}: nothing is lost");
    }
}

/// Writes a tiny model with the vocabulary of another, and rows of zeros for its tokens.
fn with_vocabulary(path: &Path, vocabulary: &Metadata) {
    let tiny = Weights::open(&hub_fixtures::gguf("qwen2")).unwrap();
    let is_of_tokens = |key: &&str| key.starts_with("tokenizer.");
    let mut metadata = Metadata::default();
    for key in tiny.metadata().keys().filter(|key| !is_of_tokens(key)) {
        metadata.insert(key, tiny.metadata().get(key).unwrap().clone());
    }
    for key in vocabulary.keys().filter(is_of_tokens) {
        metadata.insert(key, vocabulary.get(key).unwrap().clone());
    }
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}";
    metadata.insert("tokenizer.chat_template", template);
    let rows = vocabulary.strings("tokenizer.ggml.tokens").unwrap().len();
    let tensor = |name: &str| {
        let mut tensor: RawTensor = tiny.read(name).unwrap();
        if ["token_embd.weight", "output.weight"].contains(&name) {
            tensor.bytes = vec![0; tensor.bytes.len() / tensor.shape[0] * rows];
            tensor.shape[0] = rows;
        }
        (name.to_owned(), tensor)
    };
    let tensors: Vec<_> = tiny.names().map(tensor).collect();
    write_gguf(std::fs::File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

#[test]
fn no_control_token_of_a_real_vocabulary_can_be_typed() {
    let Some(llama_cpp) = std::env::var_os("HUB_TEST_LLAMA_CPP") else {
        println!("skipped: HUB_TEST_LLAMA_CPP does not name the folder of llama.cpp");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "command-r",
        "deepseek-llm",
        "falcon",
        "gemma-4",
        "llama-bpe",
        "llama-spm",
        "phi-3",
        "qwen35",
        "refact",
    ] {
        let vocabulary = Path::new(&llama_cpp).join(format!("models/ggml-vocab-{name}.gguf"));
        let path = folder.path().join("model.gguf");
        with_vocabulary(&path, Weights::open(&vocabulary).unwrap().metadata());
        let model = TextModel::open(&path, LoadOptions::default()).unwrap();
        let tokenizer = model.tokenizer();
        let texts: Vec<String> = tokenizer.special_texts().collect();
        assert!(texts.len() >= 2, "{name}");
        for text in texts {
            let typed = format!("a {text}b{text}{text} c\n{text}");
            let messages = vec![Message::user(typed.clone()), Message::assistant(typed.clone())];
            let prepared = model.prepare(&Prompt::Chat(ChatPrompt::new(messages))).unwrap();
            assert!(!prepared.tokens().iter().any(|id| tokenizer.is_special(*id)), "{name}: {text}");
            let read = tokenizer.decode(prepared.tokens(), SkipSpecial::Yes).replace(' ', "");
            assert_eq!(read, typed.replace(' ', "").repeat(2), "{name}: nothing is lost");
        }
    }
}

/// Opens a tiny model in whose tokenizer other marks stand for the control tokens of ChatML, and are called words.
fn with_marks(marks: [&str; 2], template: &str) -> (tempfile::TempDir, TextModel) {
    let (folder, _) = with_template("qwen2", template);
    let path = folder.path().join("tokenizer.json");
    let mut text = std::fs::read_to_string(&path).unwrap();
    for (old, new) in ["<|im_start|>", "<|im_end|>"].iter().zip(marks) {
        text = text.replace(old, new);
    }
    let mut tokenizer: serde_json::Value = serde_json::from_str(&text).unwrap();
    for added in tokenizer["added_tokens"].as_array_mut().unwrap() {
        added["special"] = (!marks.contains(&added["content"].as_str().unwrap())).into();
    }
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let model = TextModel::open(folder.path(), LoadOptions::default()).unwrap();
    (folder, model)
}

#[test]
fn marks_that_a_tokenizer_calls_words_stay_text_when_they_are_typed() {
    let template = "{% for m in messages %}<｜User｜>{{ m.content.split('</think>')[-1] }}{% endfor %}";
    let (_folder, model) = with_marks(["<｜User｜>", "</think>"], template);
    let tokenizer = model.tokenizer();
    let [turn, end] = ["<｜User｜>", "</think>"].map(|mark| tokenizer.id_of(mark).unwrap());
    assert!(!tokenizer.is_special(turn) && !tokenizer.is_special(end));
    let prepare = |message: Message| {
        let prepared = model.prepare(&Prompt::Chat(ChatPrompt::new(vec![message]))).unwrap();
        let count = |id: u32| prepared.tokens().iter().filter(|token| **token == id).count();
        (count(turn), count(end), tokenizer.decode(prepared.tokens(), SkipSpecial::No))
    };
    let typed = "a <｜User｜> b </think> c";
    assert_eq!(prepare(Message::user(typed)), (1, 0, format!("<｜User｜>{typed}")));
    // The template takes what was thought out of earlier answers.
    let read = prepare(Message::assistant(typed));
    assert_eq!(read, (1, 0, "<｜User｜> c".to_owned()));
    // What no template writes is a word.
    let (_folder, model) =
        with_marks(["<table>", "[x]"], "{% for m in messages %}{{ m.content }}{% endfor %}");
    let id = model.tokenizer().id_of("<table>").unwrap();
    let prompt = Prompt::Chat(ChatPrompt::new(vec![Message::user("a <table> b")]));
    assert!(model.prepare(&prompt).unwrap().tokens().contains(&id));
}

#[test]
fn a_control_token_may_end_the_thinking() {
    let (folder, _) =
        with_template("qwen2", "{{ messages[0].content }}{{ '<think>' }}{# '</think>' ends it #}");
    let path = folder.path().join("tokenizer.json");
    let tokenizer = std::fs::read_to_string(&path).unwrap().replace("<|im_start|>", "</think>");
    std::fs::write(&path, tokenizer).unwrap();
    let model = TextModel::open(folder.path(), LoadOptions::default()).unwrap();
    let end = model.tokenizer().id_of("</think>").unwrap();
    assert!(model.tokenizer().is_special(end));
    // Nothing but this token is ever drawn.
    let mut options = GenerateOptions::default().greedy().max_tokens(3);
    options.sampling.logit_bias = vec![(end, 100.0)];
    let deltas = model.generate(vec![Message::user("hi")], options).unwrap().blocking();
    let deltas: Vec<Delta> = deltas.collect::<Result<_, _>>().unwrap();
    assert!(deltas.iter().all(|delta| delta.reasoning.is_empty()));
    assert_eq!(deltas.iter().map(|delta| delta.text.as_str()).collect::<String>(), "</think></think>");
}

#[test]
fn thinking_is_no_part_of_the_text() {
    let template = "{{ messages[0].content }}{{ '<think>' if not off else '<think></think>' }}";
    let (_folder, model) = with_template("llama", template);
    let ask = |off: bool| {
        let mut kwargs = serde_json::Map::new();
        kwargs.insert("off".to_owned(), off.into());
        let chat = ChatPrompt::new(vec![Message::user("hi")]).template_kwargs(kwargs);
        let options = GenerateOptions::default().greedy().max_tokens(8);
        let deltas = model.generate(Prompt::Chat(chat), options).unwrap().blocking();
        let deltas = deltas.collect::<Result<Vec<_>, _>>().unwrap();
        let all =
            |part: fn(&Delta) -> &String| deltas.iter().map(|delta| part(delta).as_str()).collect::<String>();
        (all(|delta| &delta.reasoning), all(|delta| &delta.text))
    };
    let (thought, answer) = ask(false);
    assert!(!thought.is_empty() && answer.is_empty(), "{thought:?} {answer:?}");
    let (thought, answer) = ask(true);
    assert!(thought.is_empty() && !answer.is_empty(), "{thought:?} {answer:?}");
}

#[test]
fn what_came_with_a_model_is_used_where_its_files_say_nothing() {
    // A file whose template stands under a name that nobody reads has none.
    let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/models/gguf/qwen2.gguf"));
    let (mut bytes, key) = (bytes.unwrap(), b"tokenizer.chat_template");
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap();
    bytes[at + key.len() - 1] = b'x';
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    let ask = Prompt::from(vec![Message::user("Xin chào")]);
    let alone = TextModel::open(&path, LoadOptions::default()).unwrap();
    let mut preset = Preset::default();
    preset.chat_template = known_template("<|im_start|>{{ .Role }}<|im_end|>").map(str::to_owned);
    preset.system = Some("You are Kim.".to_owned());
    preset.max_tokens = Some(3);
    preset.sampling.temperature = Some(0.0);
    let model = TextModel::open(&path, LoadOptions::default().preset(preset)).unwrap();
    let prepared = model.prepare(&ask).unwrap();
    let text = model.tokenizer().decode(prepared.tokens(), SkipSpecial::No);
    assert!(text.contains("You are Kim.") && text.contains("Xin chào"), "{text}");
    assert!(matches!(alone.prepare(&ask), Err(Error::NoTemplate)), "its file has no template");
    let own = Prompt::from(vec![Message::system("Be brief."), Message::user("Xin chào")]);
    let own = model.tokenizer().decode(model.prepare(&own).unwrap().tokens(), SkipSpecial::No);
    assert!(!own.contains("Kim"), "instructions of one's own go before: {own}");
    let count = |options: GenerateOptions| {
        let options = options.end(EndTokens::Ignore);
        model.submit(prepared.clone(), options).unwrap().blocking().last().unwrap().unwrap().usage
    };
    assert_eq!(count(GenerateOptions::default()).map(|usage| usage.completion_tokens), Some(3));
    assert_eq!(count(GenerateOptions::default().max_tokens(5)).map(|usage| usage.completion_tokens), Some(5));
}
