//! Folders whose weights are of few bits, against folders with the numbers those bits mean.

use std::{collections::BTreeMap, path::Path};

use hub_fixtures::{TinyModel, expected_text};
use hub_nn::weights::Weights;
use serde_json::{Value, json};

use crate::parity::{EXECUTORS, distance, load, logits};

/// The numbers that four bits stand for: E2M1 of the OCP Microscaling Formats, version 1.0.
const E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// A tensor as a folder stores it.
struct Stored {
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    fn f32(shape: Vec<usize>, numbers: &[f32]) -> Self {
        Self { dtype: "F32", shape, bytes: numbers.iter().flat_map(|number| number.to_le_bytes()).collect() }
    }
}

/// Writes a folder of a tiny model with other tensors, and `quantization` in its configuration.
fn write(folder: &Path, model: &Path, tensors: &BTreeMap<String, Stored>, quantization: Value) {
    let text = std::fs::read(model.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    config["quantization_config"] = quantization;
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, Stored { dtype, shape, bytes }) in tensors {
        let place = [data.len(), data.len() + bytes.len()];
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": place}));
        data.extend_from_slice(bytes);
    }
    let header = Value::Object(header).to_string();
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    std::fs::write(folder.join("model.safetensors"), file).unwrap();
}

/// Loads both folders into every executor, and compares the logits of a prompt.
#[track_caller]
fn check(name: &str, few: &Path, plain: &Path) {
    let prompt = &expected_text(name).prompts[1].ids;
    for kind in EXECUTORS {
        let [few, plain] = [few, plain].map(|path| logits(load(path, kind).as_mut(), prompt, prompt.len()));
        let far = few.iter().zip(&plain).map(|(a, b)| distance(a, b)).fold(0.0, f32::max);
        // The executor for processors rounds activations beside weights of few bits.
        let most = if kind == hub_nn::executor::ExecutorKind::Candle { 1e-3 } else { 0.2 };
        assert!(far < most, "{name} on {kind:?}: {far}");
    }
}

/// Packs numbers as MXFP4: blocks, scales, and the numbers they mean.
fn mxfp4(numbers: &[f32]) -> (Vec<u8>, Vec<u8>, Vec<f32>) {
    let (mut blocks, mut scales, mut meant) = (Vec::new(), Vec::new(), Vec::new());
    for block in numbers.chunks_exact(32) {
        let most = block.iter().fold(0.0_f32, |most, number| most.max(number.abs()));
        let exponent = (most / 6.0).log2().ceil().max(-100.0);
        scales.push((exponent + 127.0) as u8);
        let nearest = |number: f32| {
            let far = |code: &usize| (E2M1[*code] * exponent.exp2() - number).abs();
            (0..16).min_by(|a, b| far(a).total_cmp(&far(b))).unwrap()
        };
        let codes: Vec<usize> = block.iter().map(|number| nearest(*number)).collect();
        blocks.extend(codes.chunks_exact(2).map(|pair| (pair[0] | pair[1] << 4) as u8));
        meant.extend(codes.iter().map(|code| E2M1[*code] * exponent.exp2()));
    }
    (blocks, scales, meant)
}

/// Turns each matrix of a stack `[count, rows, cols]` over.
fn turned(numbers: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let matrices = numbers.chunks_exact(rows * cols);
    matrices.flat_map(|matrix| (0..cols * rows).map(|at| matrix[at % rows * cols + at / rows])).collect()
}

#[test]
fn mxfp4_of_gpt_oss() {
    let model = TinyModel::new("gpt-oss").write();
    let weights = Weights::open(model.path()).unwrap();
    let (mut few, mut plain) = (BTreeMap::new(), BTreeMap::new());
    for name in weights.names() {
        let raw = weights.read(name).unwrap();
        let (shape, numbers) = (raw.shape.clone(), raw.to_f32().unwrap());
        let [count, inputs, outputs] = shape[..] else {
            few.insert(name.to_owned(), Stored::f32(shape.clone(), &numbers));
            plain.insert(name.to_owned(), Stored::f32(shape, &numbers));
            continue;
        };
        // Plain folders hold these turned over, packed ones do not.
        let (blocks, scales, meant) = mxfp4(&turned(&numbers, inputs, outputs));
        let bytes = |shape: &[usize], bytes| Stored { dtype: "U8", shape: shape.to_vec(), bytes };
        few.insert(format!("{name}_blocks"), bytes(&[count, outputs, inputs / 32, 16], blocks));
        few.insert(format!("{name}_scales"), bytes(&[count, outputs, inputs / 32], scales));
        plain.insert(name.to_owned(), Stored::f32(shape, &turned(&meant, outputs, inputs)));
    }
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    write(folders[0].path(), model.path(), &few, json!({"quant_method": "mxfp4"}));
    write(folders[1].path(), model.path(), &plain, Value::Null);
    check("gpt-oss", folders[0].path(), folders[1].path());

    // A scale is missing.
    let name = "model.layers.0.mlp.experts.down_proj_scales";
    few.get_mut(name).unwrap().shape[2] -= 1;
    few.get_mut(name).unwrap().bytes.truncate(5 * 64 * 2);
    write(folders[0].path(), model.path(), &few, json!({"quant_method": "mxfp4"}));
    let error = Weights::open(folders[0].path()).unwrap_err().to_string();
    assert!(error.contains(name), "{error}");
}
