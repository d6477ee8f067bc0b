//! Tokenizers of four kinds, from `tokenizer.json` and from GGUF metadata, against the libraries that trained them.

use std::{fs, path::Path};

use hub_base::ErrorKind;
use hub_nn::{
    tokens::{AddSpecial, Error, Piece, SkipSpecial, SpecialTokens, TextStream, Tokenizer},
    weights::{Metadata, Value as Stored},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// What `fixtures/tokens/make.py` wrote of one kind.
#[derive(Deserialize)]
struct Fixture {
    tokenizer: Value,
    gguf: serde_json::Map<String, Value>,
    cases: Vec<Case>,
    pair: Pair,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    framed: Vec<u32>,
}

#[derive(Deserialize)]
struct Pair {
    texts: [String; 2],
    ids: Vec<u32>,
    types: Vec<u32>,
}

fn fixture(kind: &str) -> Fixture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../fixtures/tokens/{kind}.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

impl Fixture {
    fn json_tokenizer(&self) -> Tokenizer {
        Tokenizer::from_json(self.tokenizer.to_string().as_bytes()).unwrap()
    }

    fn metadata(&self) -> Metadata {
        self.gguf.iter().map(|(key, value)| (key.as_str(), stored(key, value))).collect()
    }

    fn gguf_tokenizer(&self) -> Tokenizer {
        Tokenizer::from_gguf(&self.metadata()).unwrap()
    }
}

/// Stores a value as llama.cpp's converter would.
fn stored(key: &str, value: &Value) -> Stored {
    match value {
        Value::Bool(value) => (*value).into(),
        Value::Number(id) => u32::try_from(id.as_u64().unwrap()).unwrap().into(),
        Value::String(text) if key.ends_with("charsmap") => decode_base64(text).into(),
        Value::String(text) => text.as_str().into(),
        Value::Array(values) if key.ends_with("scores") => {
            values.iter().map(|score| score.as_f64().unwrap() as f32).collect::<Vec<f32>>().into()
        }
        Value::Array(values) if key.ends_with("token_type") => {
            values.iter().map(|kind| kind.as_i64().unwrap() as i32).collect::<Vec<i32>>().into()
        }
        Value::Array(values) => {
            values.iter().map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<String>>().into()
        }
        Value::Null | Value::Object(_) => panic!("{key}"),
    }
}

fn decode_base64(text: &str) -> Vec<u8> {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Vec<u32> =
        text.chars().filter_map(|digit| alphabet.find(digit)).map(|at| at as u32).collect();
    let bytes = digits.chunks(4).flat_map(|digits| {
        let bits = (0..4).fold(0, |bits, at| bits << 6 | digits.get(at).copied().unwrap_or(0));
        bits.to_be_bytes()[1..digits.len()].to_vec()
    });
    bytes.collect()
}

#[track_caller]
fn check(kind: &str) {
    let fixture = fixture(kind);
    for (from, tokenizer) in
        [("tokenizer.json", fixture.json_tokenizer()), ("GGUF", fixture.gguf_tokenizer())]
    {
        for case in &fixture.cases {
            let text = case.text.as_str();
            assert_eq!(
                tokenizer.encode(text, AddSpecial::No).unwrap(),
                case.ids,
                "{kind} from {from}: {text:?}"
            );
            assert_eq!(
                tokenizer.encode(text, AddSpecial::Yes).unwrap(),
                case.framed,
                "{kind} from {from}: {text:?}"
            );
            check_stream(&tokenizer, &case.framed);
        }
        let pair = tokenizer.encode_pair(&fixture.pair.texts[0], &fixture.pair.texts[1]).unwrap();
        assert_eq!(
            (pair.ids, pair.types),
            (fixture.pair.ids.clone(), fixture.pair.types.clone()),
            "{kind} {from}"
        );
    }
}

/// Checks that the parts of a text are the whole of it, and that no part ends within a character.
#[track_caller]
fn check_stream(tokenizer: &Tokenizer, ids: &[u32]) {
    let mut stream = TextStream::new(tokenizer, &[]);
    let mut text: String = ids.iter().map(|&id| stream.push(id).text).collect();
    text.push_str(&stream.finish());
    assert_eq!(text, tokenizer.decode(ids, SkipSpecial::Yes));
}

#[test]
fn byte_level_bpe() {
    check("bpe");
}

#[test]
fn sentencepiece_bpe() {
    check("sentencepiece");
}

#[test]
fn unigram() {
    check("unigram");
}

#[test]
fn wordpiece() {
    check("wordpiece");
}

#[test]
fn what_was_encoded_is_decoded() {
    for kind in ["bpe", "sentencepiece"] {
        let tokenizer = fixture(kind).gguf_tokenizer();
        for text in ["", " ", "  hello ", "Xin chào\n🙂👩‍👩‍👧", "日本", "a\tb\r\n"] {
            let ids = tokenizer.encode(text, AddSpecial::Yes).unwrap();
            assert_eq!(tokenizer.decode(&ids, SkipSpecial::Yes), text, "{kind}");
        }
    }
}

#[test]
fn special_tokens_are_seen_and_left_out() {
    let fixture = fixture("bpe");
    let tokenizer = fixture.gguf_tokenizer();
    let end = tokenizer.id_of("<|im_end|>").unwrap();
    let ids = tokenizer.encode("Hi<|im_end|>", AddSpecial::No).unwrap();
    assert_eq!(ids.last(), Some(&end));
    assert!(tokenizer.is_special(end) && !tokenizer.is_special(ids[0]));
    assert_eq!(tokenizer.decode(&ids, SkipSpecial::Yes), "Hi");
    assert_eq!(tokenizer.decode(&ids, SkipSpecial::No), "Hi<|im_end|>");
    let mut stream = TextStream::new(&tokenizer, &[]).spelling(&[end]);
    assert_eq!(ids.iter().map(|id| stream.push(*id).text).collect::<String>(), "Hi<|im_end|>");
    assert_eq!(tokenizer.token_bytes(end), b"<|im_end|>");
    assert_eq!(tokenizer.token(end).unwrap(), "<|im_end|>");
    assert_eq!(tokenizer.vocab_size(), 500);
    assert_eq!(tokenizer.token_bytes(500), b"");
    assert_eq!(tokenizer.decode(&[ids[0], 70_000, u32::MAX], SkipSpecial::No), "H");
    let special = SpecialTokens::from_gguf(&fixture.metadata()).unwrap();
    assert_eq!(special.get("eos_token"), Some("<|im_end|>"));
    let document_end = tokenizer.id_of("<|endoftext|>").unwrap();
    assert_eq!(special.end_tokens(&tokenizer), [document_end, end]);
    assert_eq!((special.add_bos, special.add_eos), (Some(false), None));
    assert_eq!(special.chat_template.as_deref(), Some("{{ messages }}"));
}

#[test]
fn a_stop_string_ends_the_text_across_tokens() {
    let tokenizer = fixture("bpe").gguf_tokenizer();
    let ids = tokenizer.encode("The hub runs models.\n\nUser: more", AddSpecial::No).unwrap();
    let mut stream = TextStream::new(&tokenizer, &["\n\nUser:".to_owned(), "never".to_owned()]);
    let mut text = String::new();
    let mut taken = 0;
    for &id in &ids {
        let piece = stream.push(id);
        text.push_str(&piece.text);
        taken += 1;
        if piece.is_stopped {
            break;
        }
    }
    assert_eq!(text, "The hub runs models.");
    assert!(taken < ids.len());
    assert_eq!(stream.push(ids[0]), Piece { text: String::new(), is_stopped: true });
    assert_eq!(stream.finish(), "");
}

#[test]
fn half_a_character_waits() {
    let tokenizer = fixture("sentencepiece").gguf_tokenizer();
    let bytes: Vec<u32> =
        "🙂".bytes().map(|byte| tokenizer.id_of(&format!("<0x{byte:02X}>")).unwrap()).collect();
    let mut stream = TextStream::new(&tokenizer, &[]);
    for &id in &bytes[..3] {
        assert_eq!(stream.push(id).text, "");
    }
    assert_eq!(stream.push(bytes[3]).text, "🙂");
    assert_eq!(stream.push(bytes[0]).text, "");
    assert_eq!(stream.push(bytes[0]).text, "\u{fffd}");
    assert_eq!(stream.finish(), "\u{fffd}");
}

#[test]
fn settings_beside_the_tokenizer_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let write = |name: &str, value: &Value| fs::write(path.join(name), value.to_string()).unwrap();
    assert_eq!(SpecialTokens::from_folder(path).unwrap(), SpecialTokens::default());
    write("special_tokens_map.json", &json!({ "bos_token": "<b>", "eos_token": { "content": "</e>" } }));
    let templates =
        json!([{ "name": "tool_use", "template": "no" }, { "name": "default", "template": "yes" }]);
    write(
        "tokenizer_config.json",
        &json!({ "bos_token": "<s>", "pad_token": null, "add_bos_token": true, "chat_template": templates }),
    );
    let special = SpecialTokens::from_folder(path).unwrap();
    assert!(special.named().eq([("bos_token", "<s>"), ("eos_token", "</e>")]));
    assert_eq!((special.add_bos, special.chat_template.as_deref()), (Some(true), Some("yes")));
    write("tokenizer_config.json", &json!({ "chat_template": { "tool_use": "no", "default": "named" } }));
    assert_eq!(SpecialTokens::from_folder(path).unwrap().chat_template.as_deref(), Some("named"));
    fs::create_dir(path.join("additional_chat_templates")).unwrap();
    for (name, text) in [("tool_use", "no"), ("default", "folder")] {
        fs::write(path.join(format!("additional_chat_templates/{name}.jinja")), text).unwrap();
    }
    assert_eq!(SpecialTokens::from_folder(path).unwrap().chat_template.as_deref(), Some("folder"));
    fs::write(path.join("chat_template.jinja"), "file").unwrap();
    assert_eq!(SpecialTokens::from_folder(path).unwrap().chat_template.as_deref(), Some("file"));
    fs::write(path.join("tokenizer_config.json"), "[]").unwrap();
    assert_eq!(SpecialTokens::from_folder(path).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn padding_and_truncation_of_the_file_are_ignored() {
    let mut fixture = fixture("wordpiece");
    fixture.tokenizer["truncation"] =
        json!({ "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0 });
    fixture.tokenizer["padding"] = json!({ "strategy": { "Fixed": 64 }, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]" });
    let case = fixture.cases.iter().find(|case| case.framed.len() > 8).unwrap();
    assert_eq!(fixture.json_tokenizer().encode(&case.text, AddSpecial::Yes).unwrap(), case.framed);
}

#[track_caller]
fn corrupt(tokenizer: &Value) {
    let error = Tokenizer::from_json(tokenizer.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[test]
fn a_tokenizer_that_contradicts_itself_is_an_error() {
    let good = fixture("bpe").tokenizer;
    let with = |pointer: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        bad
    };
    for nothing in [json!(null), json!([]), json!({}), json!("tokenizer")] {
        corrupt(&nothing);
    }
    corrupt(&with("/model/merges", json!([["zz", "yy"]])));
    corrupt(&with("/model/merges", json!(["a b c"])));
    corrupt(&with("/model/vocab", json!({})));
    corrupt(&with("/model/vocab", json!({ "a": 4_000_000_000_u32 })));
    corrupt(&with("/model/vocab", json!({ "a": -1 })));
    // The library panics on these two.
    let tiny = json!({ "type": "BPE", "vocab": { "aa": 0, "b": 1 }, "merges": [["aa", "b"]] });
    corrupt(&with("/model", tiny));
    let prefixed = json!({ "type": "BPE", "continuing_subword_prefix": "####", "vocab": { "a": 0, "b": 1, "ab": 2 },
        "merges": [["a", "b"]] });
    corrupt(&with("/model", prefixed));
    assert!(matches!(Tokenizer::open(Path::new("absent/tokenizer.json")), Err(Error::NotFound { .. })));
}

#[test]
fn truncated_at_every_length() {
    for kind in ["bpe", "unigram"] {
        let text = fixture(kind).tokenizer.to_string();
        for len in (0..text.len()).step_by(97) {
            assert!(Tokenizer::from_json(&text.as_bytes()[..len]).is_err(), "{kind} {len}");
        }
    }
}

#[test]
fn metadata_that_contradict_themselves_are_an_error() {
    let good = fixture("sentencepiece").metadata();
    let with = |key: &str, value: Stored| {
        let mut bad = good.clone();
        bad.insert(key, value);
        Tokenizer::from_gguf(&bad).map(drop).unwrap_err()
    };
    assert!(matches!(Tokenizer::from_gguf(&Metadata::default()), Err(Error::MissingKey { .. })));
    assert!(
        matches!(with("tokenizer.ggml.model", "rwkv".into()), Error::UnknownModel { model } if model == "rwkv")
    );
    assert!(matches!(with("tokenizer.ggml.model", "gpt2".into()), Error::MissingKey { .. }));
    assert!(matches!(with("tokenizer.ggml.bos_token_id", 560_u32.into()), Error::Corrupt { .. }));
    assert!(matches!(with("tokenizer.ggml.scores", vec![0.5_f32].into()), Error::Corrupt { .. }));
    assert!(matches!(with("tokenizer.ggml.tokens", Vec::<String>::new().into()), Error::Corrupt { .. }));
    let mut map = fixture("unigram").metadata();
    map.insert("tokenizer.ggml.precompiled_charsmap", vec![0xff_u8; 9]);
    assert!(matches!(Tokenizer::from_gguf(&map), Err(Error::Corrupt { .. })));
}

/// A tokenizer that looks at every pair again after every merge would take minutes for these.
#[test]
fn long_texts_without_spaces_take_time_in_proportion() {
    for kind in ["bpe", "sentencepiece", "unigram", "wordpiece"] {
        let tokenizer = fixture(kind).gguf_tokenizer();
        for letter in ["a", " ", "\n", "1", "日"] {
            let text = letter.repeat(200_000 / letter.len());
            assert!(tokenizer.encode(&text, AddSpecial::No).unwrap().len() <= text.len() + 1);
        }
    }
}
