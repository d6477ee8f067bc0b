//! Damaged files: every answer is an error or a model, never a panic, a hang or a memory bomb.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use hub_nn::weights::{Metadata, RawTensor, Value, WeightKind, Weights, write_gguf};
use proptest::prelude::*;
use safetensors::{Dtype, tensor::TensorView};

/// A small GGUF file with a bit of everything.
fn gguf() -> Vec<u8> {
    let metadata = Metadata::from_iter([
        ("general.architecture", Value::from("llama")),
        ("llama.block_count", Value::from(2_u32)),
        ("tokenizer.ggml.tokens", Value::from(vec!["a".to_owned(), "▁b".to_owned()])),
        ("tokenizer.ggml.scores", Value::from(vec![0.0_f32, -1.0])),
        ("general.alignment", Value::from(32_u32)),
    ]);
    let values: Vec<f32> = (0..64).map(|idx| idx as f32 / 64.0).collect();
    let plain = RawTensor::from_f32(vec![2, 32], &values).unwrap();
    let packed = plain.quantize(WeightKind::Q8_0).unwrap();
    write_gguf(Vec::new(), &metadata, &[("a".to_owned(), plain), ("b".to_owned(), packed)]).unwrap()
}

fn safetensors() -> Vec<u8> {
    let bytes = [7_u8; 24];
    let view = |dtype, shape| TensorView::new(dtype, shape, &bytes).unwrap();
    safetensors::serialize([("a", view(Dtype::F32, vec![2, 3])), ("b", view(Dtype::F16, vec![12]))], None)
        .unwrap()
}

/// Opens whatever `bytes` are and reads all that a model would: returns whether all of it could be read.
fn survives(bytes: &[u8]) -> bool {
    let Ok(weights) = Weights::from_gguf_bytes(bytes.to_vec()) else { return false };
    weights.names().all(|name| weights.read(name).is_ok_and(|tensor| tensor.to_f32().is_ok()))
}

fn survives_as_file(path: &Path, bytes: &[u8]) -> bool {
    fs::write(path, bytes).unwrap();
    let Ok(weights) = Weights::open(path) else { return false };
    weights.names().all(|name| weights.read(name).is_ok_and(|tensor| tensor.to_f32().is_ok()))
}

#[test]
fn truncated_at_every_length() {
    let gguf = gguf();
    assert!(survives(&gguf));
    for len in 0..gguf.len() {
        // The padding behind the last tensor is nobody's.
        let needed = gguf.len() - (32 - 2 * 34 % 32);
        assert_eq!(survives(&gguf[..len]), len >= needed, "{len} of {}", gguf.len());
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let safetensors = safetensors();
    assert!(survives_as_file(file.path(), &safetensors));
    for len in 0..safetensors.len() {
        assert!(!survives_as_file(file.path(), &safetensors[..len]), "{len} of {}", safetensors.len());
    }
}

#[test]
fn tensors_that_share_bytes_are_refused() {
    let mut bytes = gguf();
    // The second tensor begins behind 64 numbers of 4 bytes.
    let offset = 256_u64.to_le_bytes();
    let at = bytes.windows(8).rposition(|window| window == offset).unwrap();
    bytes[at..at + 8].fill(0);
    let refused = Weights::from_gguf_bytes(bytes).unwrap_err().to_string();
    assert!(refused.contains("tensors `a` and `b` share bytes"), "{refused}");
}

#[test]
fn every_single_bit_flipped() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for bytes in [gguf(), safetensors()] {
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            survives_as_file(file.path(), &bytes);
        }
    }
}

#[test]
fn a_file_that_shrinks_is_an_error_of_the_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), gguf()).unwrap();
    let weights = Weights::open(file.path()).unwrap();
    fs::write(file.path(), b"GGUF").unwrap();
    assert!(weights.read("b").is_err());
}

/// Damages files at random places for as long as `HUB_TEST_SOAK_SECONDS` says.
#[test]
#[ignore = "runs for minutes; `cargo xtask soak` asks for it"]
fn soak() {
    let seconds =
        std::env::var("HUB_TEST_SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(60);
    let end = Instant::now() + Duration::from_secs(seconds);
    let file = tempfile::NamedTempFile::new().unwrap();
    let originals = [gguf(), safetensors()];
    for seed in 0_u64.. {
        if Instant::now() > end {
            eprintln!("{seed} damaged files");
            return;
        }
        // A linear congruential generator: which numbers come does not matter, only that a seed gives them again.
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let mut bytes = originals[next(2)].clone();
        for _ in 0..=next(8) {
            let at = next(bytes.len());
            match next(4) {
                0 => bytes[at] ^= 1 << next(8),
                1 => bytes[at] = next(256) as u8,
                2 => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = 0xff),
                _ => bytes.truncate(at + 1),
            }
        }
        survives(&bytes);
        survives_as_file(file.path(), &bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_overwritten(patches in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 1_usize..9), 1..6)) {
        let mut bytes = gguf();
        for (at, value, len) in patches {
            let at = at.index(bytes.len());
            for (byte, new) in bytes[at..].iter_mut().zip(&value.to_le_bytes()[..len]) {
                *byte = *new;
            }
        }
        survives(&bytes);
    }

    #[test]
    fn anything_behind_the_magic(rest in prop::collection::vec(any::<u8>(), 0..512)) {
        survives(&[b"GGUF\x03\0\0\0".as_slice(), &rest].concat());
    }

    #[test]
    fn any_header_of_safetensors(header in "[{}\\[\\]\",:a-z0-9]{0,64}") {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
        survives_as_file(file.path(), &bytes);
    }
}
