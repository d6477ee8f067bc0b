//! Tokenizers rebuilt from real vocabularies, against the ids that llama.cpp's own tests expect.

use std::{collections::BTreeMap, env, fs, path::Path};

use hub_nn::{
    tokens::{AddSpecial, SkipSpecial, TextStream, Tokenizer},
    weights::Weights,
};
use serde::Deserialize;

/// Names the folder of llama.cpp's source. `cargo xtask test` sets it; the vocabularies are 40 MB and not ours.
const VARIABLE: &str = "HUB_TEST_LLAMA_CPP";

/// Names the file `tekken_240911.json` of mistral-common. `cargo xtask test` sets it, too.
const TEKKEN: &str = "HUB_TEST_TEKKEN";

/// What stands between two texts of an `.inp` file.
const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

/// The vocabulary whose model composes characters first, which llama.cpp does not, and the accents in its texts.
const COMPOSING: (&str, [char; 2]) = ("ggml-vocab-qwen35.gguf", ['\u{300}', '\u{301}']);

#[test]
fn real_vocabularies_agree_with_llama_cpp() {
    let Some(folder) = env::var_os(VARIABLE) else {
        eprintln!("skipped: {VARIABLE} does not name a folder with the source of llama.cpp");
        return;
    };
    let models = Path::new(&folder).join("models");
    let mut agreeing = Vec::new();
    let mut differing = Vec::new();
    for entry in fs::read_dir(&models).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "gguf") {
            continue;
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        match check(&path) {
            Ok(texts) => agreeing.push(format!("{name} ({texts} texts)")),
            Err(difference) => differing.push(format!("{name}: {difference}")),
        }
    }
    agreeing.sort();
    eprintln!("agreeing: {}", agreeing.join(", "));
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    assert!(agreeing.len() >= 15, "{models:?} holds only {} vocabularies", agreeing.len());
}

/// Checks one vocabulary; returns how many texts it was checked with.
fn check(path: &Path) -> Result<usize, String> {
    let weights = Weights::open(path).map_err(|error| error.to_string())?;
    let tokenizer = Tokenizer::from_gguf(weights.metadata()).map_err(|error| error.to_string())?;
    let beside = |extension: &str| fs::read_to_string(path.with_extension(format!("gguf.{extension}")));
    // Some vocabularies come without texts; that they can be rebuilt at all is checked.
    let (Ok(texts), Ok(expected)) = (beside("inp"), beside("out")) else { return Ok(0) };
    let mut texts: Vec<&str> = texts.split(SEPARATOR).collect();
    let expected: Vec<&str> = expected.lines().collect();
    // Most files end with a separator.
    texts.pop_if(|last| last.is_empty());
    if texts.len() != expected.len() {
        return Err(format!("{} texts and {} answers", texts.len(), expected.len()));
    }
    for (text, expected) in texts.iter().zip(&expected) {
        let ids = tokenizer.encode(text, AddSpecial::No).map_err(|error| error.to_string())?;
        let found = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        let is_composed = path.ends_with(COMPOSING.0) && text.contains(COMPOSING.1);
        if found != expected.trim() && !is_composed {
            return Err(format!("{text:?}\n  expected {}\n  found    {found}", expected.trim()));
        }
        check_stream(&tokenizer, &ids)?;
    }
    Ok(texts.len())
}

/// Checks that the parts of a text are the whole.
fn check_stream(tokenizer: &Tokenizer, ids: &[u32]) -> Result<(), String> {
    let mut stream = TextStream::new(tokenizer, &["never in a text".to_owned()]);
    let mut text: String = ids.iter().map(|&id| stream.push(id).text).collect();
    text.push_str(&stream.finish());
    let whole = tokenizer.decode(ids, SkipSpecial::Yes);
    if text == whole { Ok(()) } else { Err(format!("streamed {text:?}, decoded {whole:?}")) }
}

/// What `fixtures/tokens/ways.py` wrote.
#[derive(Deserialize)]
struct Ways {
    texts: Vec<String>,
    /// Four digits for each text.
    ways: BTreeMap<String, String>,
}

#[test]
fn every_way_of_cutting_texts_leads_to_the_same_tokens_as_the_reference() {
    let Some(folder) = env::var_os(VARIABLE) else {
        eprintln!("skipped: {VARIABLE} does not name a folder with the source of llama.cpp");
        return;
    };
    let path = Path::new(&folder).join("models/ggml-vocab-llama-bpe.gguf");
    let mut metadata = Weights::open(&path).unwrap().metadata().clone();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tokens/ways.json");
    let Ways { texts, ways } = serde_json::from_slice(&fs::read(fixture).unwrap()).unwrap();
    assert!(texts.len() >= 300 && ways.len() >= 30);
    let mut differing = Vec::new();
    for (way, checksums) in &ways {
        assert_eq!(checksums.len(), 4 * texts.len());
        metadata.insert("tokenizer.ggml.pre", way.as_str());
        let tokenizer = Tokenizer::from_gguf(&metadata).unwrap();
        for (idx, text) in texts.iter().enumerate() {
            let ids = tokenizer.encode(text, AddSpecial::No).unwrap();
            if checksum(&ids) != checksums[4 * idx..4 * idx + 4] {
                differing.push(format!("{way}: {text:?}"));
            }
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// What `fixtures/tokens/vocabularies.py` wrote.
#[derive(Deserialize)]
struct Vocabularies {
    texts: Vec<String>,
    /// Four digits for each text of `ways.json`, for each of these, and for those with control tokens.
    vocabularies: BTreeMap<String, String>,
}

impl Vocabularies {
    fn read() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tokens");
        let ways: Ways = serde_json::from_slice(&fs::read(folder.join("ways.json")).unwrap()).unwrap();
        let file = fs::read(folder.join("vocabularies.json")).unwrap();
        let mut read: Self = serde_json::from_slice(&file).unwrap();
        read.texts.splice(0..0, ways.texts);
        assert!(read.texts.len() >= 600 && read.vocabularies.len() == 20);
        read
    }

    /// Returns the texts that a tokenizer cuts otherwise than it should.
    fn differing(&self, name: &str, tokenizer: &Tokenizer, controls: &[String]) -> Vec<String> {
        let checksums = &self.vocabularies[name];
        let typed = controls.iter().take(20);
        let typed =
            typed.flat_map(|token| [token.clone(), format!("a {token}b{token}{token} c\n{token}\nd")]);
        let texts: Vec<String> = self.texts.iter().cloned().chain(typed).collect();
        assert_eq!(checksums.len(), 4 * texts.len(), "{name}");
        let is_other = |(idx, text): &(usize, &String)| {
            let ids = tokenizer.encode(text, AddSpecial::No).unwrap();
            check_stream(tokenizer, &ids).unwrap();
            checksum(&ids) != checksums[4 * idx..4 * idx + 4]
        };
        let differing = texts.iter().enumerate().filter(is_other);
        differing.map(|(_, text)| format!("{name}: {text:?}")).collect()
    }
}

#[test]
fn real_vocabularies_read_texts_as_their_own_tokenizers_do() {
    let Some(folder) = env::var_os(VARIABLE) else {
        eprintln!("skipped: {VARIABLE} does not name a folder with the source of llama.cpp");
        return;
    };
    let vocabularies = Vocabularies::read();
    let mut differing = Vec::new();
    for name in vocabularies.vocabularies.keys().filter(|name| *name != "tekken") {
        let path = Path::new(&folder).join(format!("models/ggml-vocab-{name}.gguf"));
        let weights = Weights::open(&path).unwrap();
        let metadata = weights.metadata();
        let kinds = metadata.i64s("tokenizer.ggml.token_type").unwrap();
        let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap().iter().zip(kinds);
        let controls: Vec<String> =
            tokens.filter(|(_, kind)| *kind == 3).map(|(token, _)| token.clone()).collect();
        let tokenizer = Tokenizer::from_gguf(metadata).unwrap();
        differing.extend(vocabularies.differing(name, &tokenizer, &controls));
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn the_real_tekken_reads_texts_as_its_own_library_does() {
    let Some(path) = env::var_os(TEKKEN) else {
        eprintln!("skipped: {TEKKEN} does not name a tekken.json");
        return;
    };
    let tokenizer = Tokenizer::from_tekken(&fs::read(path).unwrap()).unwrap();
    assert_eq!(tokenizer.vocab_size(), 131_072);
    let controls: Vec<String> = (0..1_000).map(|id| tokenizer.token(id).unwrap()).collect();
    let differing = Vocabularies::read().differing("tekken", &tokenizer, &controls);
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// Returns the upper half of FNV-1a over whole ids.
fn checksum(ids: &[u32]) -> String {
    let mix = |value: u32, id: &u32| (value ^ id).wrapping_mul(0x0100_0193);
    format!("{:04x}", ids.iter().fold(0x811c_9dc5, mix) >> 16)
}
