//! Folders written as GGUF files, beside the files that llama.cpp's converter makes of them.

use std::collections::BTreeSet;

use hub_base::Account;
use hub_fixtures::{Kind, TinyModel, gguf_models};
use hub_models::{Error, Quantizable, Source};
use hub_nn::{
    Device,
    executor::{ExecutorKind, ExecutorOptions, KvKind},
    weights::{Existing, Mix, QuantizeOptions, Weights},
};

use crate::parity::{load_with, logits};

/// Keys that name something in several ways, or say what readers know.
const OTHERWISE: &[&str] = &[
    "general.name",
    "general.basename",
    "general.size_label",
    "general.version",
    // Several models cut texts in one way.
    "tokenizer.ggml.pre",
    // The converter keeps none for vocabularies without SentencePiece's own file.
    "tokenizer.ggml.scores",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.add_sep_token",
    // Where they change nothing, or another key says the same.
    "deepseek2.feed_forward_length",
    "deepseek2.leading_dense_block_count",
    "full_attention_interval",
    "granitehybrid.context_length",
    "granitehybrid.expert_count",
    "granitehybrid.expert_shared_feed_forward_length",
    "granitehybrid.expert_used_count",
    "granitehybrid.feed_forward_length",
    "granitehybrid.rope.dimension_count",
    "granitehybrid.rope.freq_base",
    "qwen3next.feed_forward_length",
    "gemma3n.feed_forward_length",
    "qwen3moe.feed_forward_length",
    "rope.freq_base_swa",
    "rope.scaling.type",
    "rope.scaling.original_context_length",
];

#[test]
fn a_written_file_is_what_llama_cpp_converts_to() {
    let device = Device::cpu(Account::unlimited());
    for name in gguf_models(Kind::Text) {
        let folder = TinyModel::new(&name).write();
        let model = Quantizable::open(&Source::Path(folder.path().to_owned()))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let path = folder.path().join("written.gguf");
        model.to(Mix::F16).write(&path, &device, &QuantizeOptions::default()).unwrap();
        let (written, expected) =
            (Weights::open(&path).unwrap(), Weights::open(&hub_fixtures::gguf(&name)).unwrap());
        check_tensors(&name, &written, &expected);
        for (key, value) in expected.metadata().iter() {
            if !OTHERWISE.iter().any(|end| key.ends_with(end)) {
                assert_eq!(written.metadata().get(key), Some(value), "{name}: {key}");
            }
        }
    }
}

#[track_caller]
fn check_tensors(name: &str, written: &Weights, expected: &Weights) {
    let names = |weights: &Weights| weights.names().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(names(written), names(expected), "{name}");
    for tensor in expected.names() {
        let (ours, theirs) = (written.read(tensor).unwrap(), expected.read(tensor).unwrap());
        assert_eq!((&ours.shape, ours.kind), (&theirs.shape, theirs.kind), "{name}: {tensor}");
        if tensor == "rope_freqs.weight" {
            // Computed by the formula, here and there.
            let pairs = ours.to_f32().unwrap().into_iter().zip(theirs.to_f32().unwrap());
            pairs
                .for_each(|(own, other)| assert!((own / other - 1.0).abs() < 1e-5, "{name}: {own}, {other}"));
        } else {
            assert_eq!(ours.bytes, theirs.bytes, "{name}: {tensor}");
        }
    }
}

#[test]
fn keys_that_no_layer_reads_are_written() {
    let folder = TinyModel::new("gemma3n").write();
    // Layer 2 has what it makes its own keys and values with, as all layers of published folders have.
    let config = folder.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let shared = text.replace(r#""num_kv_shared_layers": 2"#, r#""num_kv_shared_layers": 3"#);
    assert_ne!(shared, text);
    std::fs::write(&config, shared).unwrap();
    let model = Quantizable::open(&Source::Path(folder.path().to_owned())).unwrap();
    let path = folder.path().join("written.gguf");
    let device = Device::cpu(Account::unlimited());
    model.to(Mix::F16).write(&path, &device, &QuantizeOptions::default()).unwrap();
    let (written, expected) =
        (Weights::open(&path).unwrap(), Weights::open(&hub_fixtures::gguf("gemma3n")).unwrap());
    check_tensors("gemma3n", &written, &expected);
    let options = ExecutorOptions::default().kind(ExecutorKind::Cpu).kv(KvKind::F32);
    load_with(&path, options);
}

#[test]
fn folders_that_are_only_read_say_so() {
    for (name, reason) in [("llama-dynamic", "layer 0"), ("bert", "only read")] {
        let folder = TinyModel::new(name).write();
        let refused = Quantizable::open(&Source::Path(folder.path().to_owned())).unwrap_err();
        assert!(matches!(refused, Error::NoConversion { .. }), "{name}: {refused}");
        assert!(refused.to_string().contains(reason), "{name}: {refused}");
    }
}

#[test]
fn rounding_while_loading_is_writing_and_loading() {
    let device = Device::cpu(Account::unlimited());
    let tokens: Vec<u32> = (3..40).collect();
    // Families whose rows keep their order, so that every sum is the same.
    for name in ["qwen2-wide", "qwen3-moe", "gemma3"] {
        let folder = TinyModel::new(name).write();
        let path = folder.path().join("written.gguf");
        for mix in [Mix::Q8_0, Mix::Q6K, Mix::Q5KM, Mix::Q4KM, Mix::Q4_0] {
            let source = Source::Path(folder.path().to_owned());
            let mut options = QuantizeOptions::default();
            options.existing = Existing::Replace;
            Quantizable::open(&source).unwrap().to(mix).write(&path, &device, &options).unwrap();
            let stored = ExecutorOptions::default().kind(ExecutorKind::Cpu).kv(KvKind::F32);
            let mut written = load_with(&path, stored);
            let mut rounded = load_with(folder.path(), stored.weights(Some(mix)));
            let (ours, theirs) = (logits(&mut *rounded, &tokens, 64), logits(&mut *written, &tokens, 64));
            assert_eq!(ours, theirs, "{name}, {mix}");
        }
    }
}
