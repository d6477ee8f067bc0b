//! Tokenizers of Mistral's own format, against Mistral's own library.

use std::{fs, path::Path};

use hub_base::ErrorKind;
use hub_nn::tokens::{AddSpecial, SkipSpecial, SpecialTokens, Tokenizer};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What `fixtures/tokens/tekken.py` wrote.
#[derive(Deserialize)]
struct Fixture {
    files: Map<String, Value>,
    vocab: Value,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    framed: Vec<u32>,
}

impl Fixture {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tokens/tekken.json");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    fn file(&self, version: &str) -> Value {
        let mut file = self.files[version].clone();
        file["vocab"] = self.vocab.clone();
        file
    }
}

fn open(file: &Value) -> Result<Tokenizer, hub_nn::tokens::Error> {
    Tokenizer::from_tekken(file.to_string().as_bytes())
}

#[test]
fn texts_have_the_tokens_that_mistral_gives_them() {
    let fixture = Fixture::read();
    for version in fixture.files.keys() {
        let tokenizer = open(&fixture.file(version)).unwrap();
        for case in &fixture.cases {
            assert_eq!(tokenizer.encode(&case.text, AddSpecial::No).unwrap(), case.ids, "{:?}", case.text);
            assert_eq!(tokenizer.encode(&case.text, AddSpecial::Yes).unwrap(), case.framed);
            assert_eq!(tokenizer.decode(&case.framed, SkipSpecial::Yes), case.text);
        }
    }
}

#[test]
fn special_tokens_come_first_and_all_ids_have_one() {
    let fixture = Fixture::read();
    let (old, new) = (open(&fixture.file("v3")).unwrap(), open(&fixture.file("v13")).unwrap());
    assert_eq!((old.vocab_size(), new.vocab_size()), (530, 530), "ten of the words are not used");
    for tokenizer in [&old, &new] {
        assert_eq!(tokenizer.encode("<s>[INST]</s>", AddSpecial::No).unwrap(), [1, 3, 2]);
        assert_eq!(tokenizer.token(39).unwrap(), "<SPECIAL_39>");
        assert!(tokenizer.is_special(39) && !tokenizer.is_special(40));
        assert_eq!(tokenizer.token_bytes(40 + 0xe1), [0xe1]);
    }
    assert_eq!((old.id_of("[THINK]"), new.id_of("[THINK]")), (None, Some(22)));
}

#[test]
fn a_folder_with_nothing_else_says_how_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tekken.json"), Fixture::read().file("v7").to_string()).unwrap();
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    let special = SpecialTokens::from_folder(folder.path()).unwrap();
    assert_eq!((special.get("bos_token"), special.conversation_version), (Some("<s>"), Some(7)));
    assert_eq!(special.end_tokens(&tokenizer), [2]);
    fs::write(folder.path().join("tokenizer_config.json"), r#"{ "eos_token": "[/INST]" }"#).unwrap();
    let special = SpecialTokens::from_folder(folder.path()).unwrap();
    assert_eq!((special.get("eos_token"), special.get("bos_token")), (Some("[/INST]"), Some("<s>")));
    fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    assert!(Tokenizer::from_folder(folder.path()).is_err(), "the usual file wins");
    let special = SpecialTokens::from_folder(folder.path()).unwrap();
    assert_eq!((special.get("bos_token"), special.conversation_version), (None, None));
}

#[test]
fn files_that_contradict_themselves_are_an_error() {
    let good = Fixture::read().file("v13");
    let check = |pointer: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        let error = open(&bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    };
    check("/config/pattern", json!("("));
    check("/config/default_vocab_size", json!(20));
    check("/config/default_vocab_size", json!(u64::MAX));
    check("/config/default_num_special_tokens", json!(3));
    check("/config/default_num_special_tokens", json!(1 << 17));
    check("/config/default_num_special_tokens", json!(u64::MAX));
    check("/special_tokens/1/rank", json!(0));
    check("/special_tokens/1/token_str", json!("<unk>"));
    check("/special_tokens/1/token_str", json!("a"));
    check("/vocab/7/rank", json!(8));
    check("/vocab/7/token_bytes", json!("*"));
    check("/vocab/7/token_bytes", json!(""));
    check("/vocab/7/token_bytes", good["vocab"][8]["token_bytes"].clone());
    let text = good.to_string();
    for len in (0..text.len()).step_by(97) {
        assert!(Tokenizer::from_tekken(&text.as_bytes()[..len]).is_err(), "{len}");
    }
}
