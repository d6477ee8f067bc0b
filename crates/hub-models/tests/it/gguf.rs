//! GGUF files: those llama.cpp's converter wrote, and every quantized kind against its own dequantized weights.

use std::{collections::BTreeMap, path::Path};

use hub_fixtures::{Kind, Storage, TinyModel, expected_text, gguf, gguf_models};
use hub_models::inspect;
use hub_nn::{
    executor::ExecutorKind,
    weights::{Metadata, RawTensor, WeightKind, Weights, write_gguf},
};

use crate::parity::{EXECUTORS, check, distance, load, logits};

/// The fixtures' weights lie on a grid that F16 holds exactly, so these files say the same as the folders; what is left
/// is the order of sums. (`rope_freqs.weight` and the long factors are F32 in the files.)
const F16_TOLERANCE: f32 = 1e-3;

/// The quantized kinds that are read.
const KINDS: &[WeightKind] = &[
    WeightKind::Q4_0,
    WeightKind::Q4_1,
    WeightKind::Q5_0,
    WeightKind::Q5_1,
    WeightKind::Q8_0,
    WeightKind::Q2K,
    WeightKind::Q3K,
    WeightKind::Q4K,
    WeightKind::Q5K,
    WeightKind::Q6K,
];

#[test]
fn files_of_llama_cpp_compute_what_their_folders_compute() {
    let names = gguf_models(Kind::Text);
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        let path = gguf(&name);
        let kinds = inspect(&path.as_path().into()).unwrap().weight_kinds;
        assert!(kinds.contains_key("F16"), "{name}: {kinds:?}");
        check(&name, &path, F16_TOLERANCE);
    }
}

#[test]
fn layers_are_counted_by_kind() {
    let kinds = |name: &str| -> Vec<String> {
        let info = inspect(&gguf(name).as_path().into()).unwrap();
        assert_eq!(info.layer_kinds.iter().map(|kind| kind.count).sum::<usize>(), info.layers, "{name}");
        info.layer_kinds.iter().map(ToString::to_string).collect()
    };
    assert_eq!(kinds("llama"), ["2 of attention"]);
    assert_eq!(kinds("lfm2"), ["2 of short convolution", "1 of attention"]);
    assert_eq!(
        kinds("gpt-oss"),
        ["1 of attention within 16, 2 of 5 experts", "1 of attention, 2 of 5 experts"]
    );
    assert_eq!(
        kinds("qwen3.5-moe"),
        ["2 of gated delta net, 2 of 5 experts", "1 of attention, 2 of 5 experts"]
    );
    assert_eq!(kinds("granite-hybrid-dense"), ["2 of Mamba-2", "1 of attention"]);
}

#[test]
fn folders_in_half_precision_compute_the_same() {
    for storage in [Storage::F16, Storage::Bf16] {
        let folder = TinyModel::new("qwen3").storage(storage).write();
        check("qwen3", folder.path(), F16_TOLERANCE);
    }
}

/// Writes the matrices of the wide Qwen2 as `kind`, and once more as the F32 numbers that those blocks mean.
pub(crate) fn quantized_and_dequantized(
    kind: WeightKind,
    folder: &Path,
) -> (std::path::PathBuf, std::path::PathBuf) {
    let source = TinyModel::new("qwen2-wide").write();
    let weights = Weights::open(source.path()).unwrap();
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(source.path().join("config.json")).unwrap()).unwrap();
    let metadata = metadata(&config);
    let (mut blocks, mut numbers) = (Vec::new(), Vec::new());
    for name in weights.names() {
        let tensor = weights.read(name).unwrap();
        let name = gguf_name(name);
        let stored = if tensor.shape.len() == 2 { tensor.quantize(kind).unwrap() } else { tensor };
        let bytes = stored.to_f32().unwrap().iter().flat_map(|number| number.to_le_bytes()).collect();
        numbers.push((name.clone(), RawTensor { shape: stored.shape.clone(), kind: WeightKind::F32, bytes }));
        blocks.push((name, stored));
    }
    let write = |name: &str, tensors: &[(String, RawTensor)]| {
        let path = folder.join(format!("{name}.gguf"));
        write_gguf(std::fs::File::create(&path).unwrap(), &metadata, tensors).unwrap();
        path
    };
    (write("blocks", &blocks), write("numbers", &numbers))
}

/// Says of a Qwen2 what its `config.json` says. Its rows have the same order in both formats.
fn metadata(config: &serde_json::Value) -> Metadata {
    let mut metadata = Metadata::from_iter([("general.architecture", "qwen2")]);
    for (key, from) in [
        ("block_count", "num_hidden_layers"),
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
    ] {
        metadata.insert(format!("qwen2.{key}"), config[from].as_u64().unwrap() as u32);
    }
    let eps = config["rms_norm_eps"].as_f64().unwrap() as f32;
    metadata.insert("qwen2.attention.layer_norm_rms_epsilon", eps);
    let base = config["rope_parameters"]["rope_theta"].as_f64().unwrap() as f32;
    metadata.insert("qwen2.rope.freq_base", base);
    metadata
}

fn gguf_name(name: &str) -> String {
    let replacements = [
        ("model.embed_tokens", "token_embd"),
        ("model.layers", "blk"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("post_attention_layernorm", "ffn_norm"),
        ("input_layernorm", "attn_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    replacements.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

/// Both executors multiply quantized weights with activations quantized to 8 bits, in groups of 32 or 256; that, and nothing
/// else, may show. Distances are shares of the largest logit; what the kind itself loses is printed beside them.
#[test]
fn quantized_weights_compute_what_their_numbers_compute() {
    let prompt = &expected_text("qwen2-wide").prompts[0].ids;
    let original = TinyModel::new("qwen2-wide").write();
    let original = logits(load(original.path(), ExecutorKind::Candle).as_mut(), prompt, prompt.len());
    let mut table = BTreeMap::new();
    for &kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let (blocks, numbers) = quantized_and_dequantized(kind, folder.path());
        let kinds = inspect(&blocks.as_path().into()).unwrap().weight_kinds;
        assert!(kinds.contains_key(kind.as_str()), "the file holds {kinds:?}");

        let expected = logits(load(&numbers, ExecutorKind::Candle).as_mut(), prompt, prompt.len());
        let far = |left: &[Vec<f32>], right: &[Vec<f32>]| {
            left.iter().zip(right).map(|(a, b)| distance(a, b)).fold(0.0, f32::max)
        };
        let spread = expected.iter().flatten().fold(0.0f32, |most, logit| most.max(logit.abs()));
        let itself = far(&expected, &original) / spread;
        for executor in EXECUTORS {
            let computed = logits(load(&blocks, executor).as_mut(), prompt, prompt.len());
            let arithmetic = far(&computed, &expected) / spread;
            table.insert(format!("{kind} on {executor:?}"), (arithmetic, itself));
        }
    }
    for (kind, (arithmetic, kind_itself)) in &table {
        println!("{kind}: arithmetic {arithmetic:.4}, the kind itself {kind_itself:.4} of the spread");
    }
    for (kind, (arithmetic, _)) in table {
        assert!(arithmetic < 0.05, "{kind}: {arithmetic}");
    }
}

#[test]
fn quantized_weights_stay_quantized() {
    let folder = tempfile::tempdir().unwrap();
    let (blocks, numbers) = quantized_and_dequantized(WeightKind::Q4K, folder.path());
    for kind in EXECUTORS {
        let bytes = |path: &Path| load(path, kind).weight_bytes();
        let share = bytes(&blocks) as f64 / bytes(&numbers) as f64;
        // 4.5 bits of 32; candle has a copy of 8.5 bits of its own on processors with AVX-512 VNNI.
        let most = if kind == ExecutorKind::Cpu { 0.2 } else { 0.45 };
        assert!(share < most, "{kind:?}: {share}");
    }
}

#[test]
fn a_vocabulary_of_another_length_than_the_embedding_is_refused() {
    let weights = Weights::open(&gguf("llama")).unwrap();
    let mut metadata = weights.metadata().clone();
    let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap()[..100].to_vec();
    metadata.insert("tokenizer.ggml.tokens", tokens);
    let tensors: Vec<_> =
        weights.names().map(|name| (name.to_owned(), weights.read(name).unwrap())).collect();
    let file = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
    write_gguf(file.as_file(), &metadata, &tensors).unwrap();
    let error = inspect(&file.path().into()).unwrap_err().to_string();
    assert!(error.contains("100 tokens for an embedding of 384 rows"), "{error}");
}
