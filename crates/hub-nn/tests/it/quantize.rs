//! Numbers rounded to blocks, beside what llama.cpp's quantizers make of them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use hub_base::{Account, ErrorKind, ProgressSink};
use hub_nn::{
    Device,
    weights::{
        Again, Existing, Metadata, Mix, Quantization, QuantizeOptions, RawTensor, Value, WeightKind, Weights,
        Why, write_gguf,
    },
};
use serde::Deserialize;

/// Numbers, and what `fixtures/kinds/errors.py` found of llama.cpp.
#[derive(Deserialize)]
struct Draw {
    name: String,
    numbers: String,
    crc32: BTreeMap<String, u32>,
    rms: BTreeMap<String, f64>,
}

impl Draw {
    fn all() -> Vec<Self> {
        let text = std::fs::read_to_string(hub_fixtures::root().join("kinds/errors.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn numbers(&self) -> Vec<f32> {
        let half = |at| u16::from_str_radix(&self.numbers[at..at + 4], 16).unwrap().swap_bytes();
        (0..self.numbers.len()).step_by(4).map(|at| half::f16::from_bits(half(at)).to_f32()).collect()
    }

    fn quantized(&self, kind: &str) -> RawTensor {
        let kind = WeightKind::all().find(|known| known.as_str() == kind).unwrap();
        let numbers = self.numbers();
        RawTensor::from_f32(vec![2, numbers.len() / 2], &numbers).unwrap().quantize(kind).unwrap()
    }
}

#[test]
fn kinds_of_32_numbers_are_the_same_bytes() {
    for draw in Draw::all() {
        assert_eq!(draw.crc32.len(), 5);
        for (kind, expected) in &draw.crc32 {
            assert_eq!(crc32fast::hash(&draw.quantized(kind).bytes), *expected, "{}, {kind}", draw.name);
        }
    }
}

#[test]
fn kinds_of_256_numbers_are_as_near() {
    for draw in Draw::all() {
        assert_eq!(draw.rms.len(), 3);
        for (kind, expected) in &draw.rms {
            let found = draw.quantized(kind).to_f32().unwrap();
            let squares = |(found, number): (&f32, f32)| f64::from(found - number).powi(2);
            let rms =
                (found.iter().zip(draw.numbers()).map(squares).sum::<f64>() / found.len() as f64).sqrt();
            assert!(rms <= expected * 1.02, "{}, {kind}: {rms:e} for {expected:e}", draw.name);
        }
    }
}

/// Writes a model of 16 layers whose values and ends of feed-forward parts are matrices, and returns its file.
fn model(folder: &Path, kind: WeightKind) -> PathBuf {
    let metadata = Metadata::from_iter([
        ("general.architecture", Value::from("llama")),
        ("llama.block_count", Value::from(16_u32)),
        ("general.file_type", Value::from(0_u32)),
        ("general.name", Value::from("as it was")),
    ]);
    let matrix = |seed: usize, cols: usize| {
        let numbers: Vec<f32> = (0..2 * cols).map(|at| ((at * 7 + seed) as f32 * 0.37).sin()).collect();
        RawTensor::from_f32(vec![2, cols], &numbers).unwrap()
    };
    let mut tensors = vec![
        ("output.weight".to_owned(), matrix(0, 256).quantize(kind).unwrap()),
        ("token_embd.weight".to_owned(), matrix(1, 256).quantize(kind).unwrap()),
        ("output_norm.weight".to_owned(), RawTensor::from_f32(vec![256], &[1.0; 256]).unwrap()),
    ];
    for layer in 0..16 {
        let mut add = |name: &str, tensor| tensors.push((format!("blk.{layer}.{name}.weight"), tensor));
        add("attn_v", matrix(layer, 256).quantize(kind).unwrap());
        add("attn_k", matrix(layer, 96).quantize(WeightKind::F32).unwrap());
        add("ffn_down", matrix(layer, 512).quantize(kind).unwrap());
        add("ffn_gate_inp", matrix(layer, 256));
    }
    let path = folder.join(format!("model-{kind}.gguf"));
    write_gguf(std::fs::File::create(&path).unwrap(), &metadata, &tensors).unwrap();
    path
}

fn device() -> Device {
    Device::cpu(Account::unlimited())
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_mix_gives_more_bits_to_what_suffers_most() {
    let folder = tempfile::tempdir().unwrap();
    let weights = Weights::open(&model(folder.path(), WeightKind::F32)).unwrap();
    let to = folder.path().join("out.gguf");
    let quantization = Quantization::of_gguf(&weights, Mix::Q4KM);
    quantization.write(&to, &device(), &QuantizeOptions::default()).unwrap();
    let written = Weights::open(&to).unwrap();
    assert_eq!(written.total_bytes(), quantization.bytes());
    assert_eq!(written.names().collect::<Vec<_>>(), weights.names().collect::<Vec<_>>());
    assert_eq!(written.metadata().u64("general.file_type"), Some(15));
    assert_eq!(written.metadata().u64("general.quantization_version"), Some(2));
    assert_eq!(written.metadata().str("general.name"), Some("as it was"));
    let kind = |name: &str| written.info(name).unwrap().kind;
    assert_eq!(kind("output.weight"), WeightKind::Q6K);
    assert_eq!(kind("token_embd.weight"), WeightKind::Q4K, "it is not the head here");
    assert_eq!(kind("output_norm.weight"), WeightKind::F32);
    for layer in 0..16 {
        let more =
            if [0, 1, 4, 7, 10, 13, 14, 15].contains(&layer) { WeightKind::Q6K } else { WeightKind::Q4K };
        for (name, expected) in [
            ("attn_v", more),
            ("ffn_down", more),
            ("attn_k", WeightKind::Q5_0),
            ("ffn_gate_inp", WeightKind::F32),
        ] {
            assert_eq!(kind(&format!("blk.{layer}.{name}.weight")), expected, "{name} of layer {layer}");
        }
    }
    let narrow = quantization.tensors().iter().filter(|target| target.why == Why::Narrow(WeightKind::Q4K));
    assert_eq!(narrow.count(), 16);
}

#[test]
fn every_mix_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let weights = Weights::open(&model(folder.path(), WeightKind::F32)).unwrap();
    let mut last = u64::MAX;
    for mix in Mix::ALL {
        let to = folder.path().join(format!("{mix}.gguf"));
        let quantization = Quantization::of_gguf(&weights, mix);
        quantization.write(&to, &device(), &QuantizeOptions::default()).unwrap();
        let written = Weights::open(&to).unwrap();
        for name in weights.names() {
            let (before, after) = (weights.read(name).unwrap(), written.read(name).unwrap());
            let pairs = before.to_f32().unwrap().into_iter().zip(after.to_f32().unwrap());
            let worst = pairs.map(|(before, after)| (before - after).abs()).fold(0.0, f32::max);
            assert!(worst < 0.15, "{mix}, {name}: {worst}");
        }
        assert!(quantization.bytes() < last, "{mix} is smaller than the one before");
        last = quantization.bytes();
    }
}

#[test]
fn nothing_is_overwritten_or_rounded_twice_unless_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let from = model(folder.path(), WeightKind::Q8_0);
    let weights = Weights::open(&from).unwrap();
    let (quantization, to) = (Quantization::of_gguf(&weights, Mix::Q4KM), folder.path().join("out.gguf"));
    let mut options = QuantizeOptions::default();
    let refused = |to: &Path, options: &QuantizeOptions| {
        let error = quantization.write(to, &device(), options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        error.to_string()
    };
    assert!(refused(&to, &options).contains("`output.weight` is Q8_0 already"));
    options.again = Again::Round;
    quantization.write(&to, &device(), &options).unwrap();
    assert!(refused(&to, &options).contains("is there already"));
    options.existing = Existing::Replace;
    quantization.write(&to, &device(), &options).unwrap();
    assert!(refused(&from, &options).contains("what the weights are read from"));
    assert_eq!(names_in(folder.path()), ["model-Q8_0.gguf", "out.gguf"]);

    // What keeps its kind is not rounded again.
    let same = folder.path().join("same.gguf");
    Quantization::of_gguf(&weights, Mix::Q8_0).write(&same, &device(), &QuantizeOptions::default()).unwrap();
    let same = Weights::open(&same).unwrap();
    for name in weights.names().filter(|name| weights.info(name).unwrap().kind == WeightKind::Q8_0) {
        assert_eq!(same.read(name).unwrap(), weights.read(name).unwrap());
    }
}

#[test]
fn what_is_stopped_or_fails_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let weights = Weights::open(&model(folder.path(), WeightKind::F32)).unwrap();
    let to = folder.path().join("out.gguf");
    let mut options = QuantizeOptions::default();
    let cancel = options.cancel.clone();
    options.progress = ProgressSink::new(move |progress| {
        if progress.done * 2 > progress.total {
            cancel.cancel();
        }
    });
    let quantization = Quantization::of_gguf(&weights, Mix::Q6K);
    assert_eq!(quantization.write(&to, &device(), &options).unwrap_err().kind(), ErrorKind::Cancelled);

    let endless = RawTensor::from_f32(vec![2, 256], &[f32::NAN; 512]).unwrap();
    let metadata = Metadata::from_iter([("general.architecture", "llama")]);
    let bytes = write_gguf(Vec::new(), &metadata, &[("blk.0.ffn_up.weight".to_owned(), endless)]).unwrap();
    let broken = Weights::from_gguf_bytes(bytes).unwrap();
    let error = Quantization::of_gguf(&broken, Mix::Q6K)
        .write(&to, &device(), &QuantizeOptions::default())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot write tensor `blk.0.ffn_up.weight`: it holds NaN, which Q6_K cannot"
    );
    let nowhere = folder.path().join("no/such/out.gguf");
    let error = quantization.write(&nowhere, &device(), &QuantizeOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(names_in(folder.path()), ["model-F32.gguf"]);
}

#[test]
fn what_a_killed_process_left_is_deleted_and_what_another_writes_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let weights = Weights::open(&model(folder.path(), WeightKind::F32)).unwrap();
    let (abandoned, held) =
        (folder.path().join("out.gguf.part-1-1"), folder.path().join("out.gguf.part-2-2"));
    std::fs::write(&abandoned, b"GGUF").unwrap();
    let holder = std::fs::File::create(&held).unwrap();
    holder.try_lock().unwrap();
    let to = folder.path().join("out.gguf");
    Quantization::of_gguf(&weights, Mix::Q8_0).write(&to, &device(), &QuantizeOptions::default()).unwrap();
    assert_eq!(names_in(folder.path()), ["model-F32.gguf", "out.gguf", "out.gguf.part-2-2"]);
}
