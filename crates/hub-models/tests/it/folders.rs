//! Folders whose weights are of few bits, against folders with the numbers those bits mean.

use std::{collections::BTreeMap, path::Path};

use hub_fixtures::{TinyModel, expected_text};
use hub_models::inspect;
use hub_nn::weights::Weights;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::parity::{EXECUTORS, distance, load, logits};

/// The numbers that four bits stand for: E2M1 of the OCP Microscaling Formats, version 1.0.
const E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// A tensor as a folder stores it.
pub(crate) struct Stored {
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    pub(crate) fn f32(shape: Vec<usize>, numbers: &[f32]) -> Self {
        Self { dtype: "F32", shape, bytes: numbers.iter().flat_map(|number| number.to_le_bytes()).collect() }
    }
}

/// Writes a folder of a tiny model with other tensors, and `quantization` in its configuration.
fn write(folder: &Path, model: &Path, tensors: &BTreeMap<String, Stored>, quantization: Value) {
    let text = std::fs::read(model.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    config["quantization_config"] = quantization;
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    write_safetensors(&folder.join("model.safetensors"), tensors);
}

/// Writes a file of tensors.
pub(crate) fn write_safetensors(path: &Path, tensors: &BTreeMap<String, Stored>) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, Stored { dtype, shape, bytes }) in tensors {
        let place = [data.len(), data.len() + bytes.len()];
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": place}));
        data.extend_from_slice(bytes);
    }
    let header = Value::Object(header).to_string();
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    std::fs::write(path, file).unwrap();
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

/// What a format makes of a matrix `[rows, columns]`: tensors by what follows the module's name, and the numbers they mean.
/// Without tensors, the module stays plain, as folders may list some that do.
type Quantized = (Vec<(&'static str, Stored)>, Vec<f32>);

/// How near logits of so many of a hundred positions must be.
#[derive(Clone, Copy)]
struct Near {
    most: f32,
    percent: usize,
}

/// The same numbers are multiplied.
const PLAIN: Near = Near { most: 1e-3, percent: 100 };
/// Both executors round activations beside weights of few bits.
const BLOCKS: Near = Near { most: 0.2, percent: 100 };
/// So they do, and where two experts are nearly as good as each other, rounding chooses between them.
const EXPERTS: Near = Near { most: 0.2, percent: 90 };

/// Compares a model whose matrices are of a format with one that holds the numbers they mean, on both executors.
/// Returns the folder.
#[track_caller]
fn check_format(
    name: &str,
    quantization: Value,
    near: Near,
    quantize: impl Fn(usize, usize, &[f32]) -> Quantized,
) -> TempDir {
    let model = TinyModel::new(name).write();
    let weights = Weights::open(model.path()).unwrap();
    let (mut few, mut plain) = (BTreeMap::new(), BTreeMap::new());
    for tensor in weights.names() {
        let raw = weights.read(tensor).unwrap();
        let numbers = raw.to_f32().unwrap();
        let module = tensor.strip_suffix("proj.weight").map(|module| format!("{module}proj"));
        let (Some(module), [rows, cols]) = (module, &raw.shape[..]) else {
            few.insert(tensor.to_owned(), Stored::f32(raw.shape.clone(), &numbers));
            plain.insert(tensor.to_owned(), Stored::f32(raw.shape, &numbers));
            continue;
        };
        let (parts, meant) = quantize(*rows, *cols, &numbers);
        if parts.is_empty() {
            few.insert(tensor.to_owned(), Stored::f32(raw.shape.clone(), &meant));
        }
        few.extend(parts.into_iter().map(|(part, stored)| (format!("{module}.{part}"), stored)));
        plain.insert(tensor.to_owned(), Stored::f32(raw.shape, &meant));
    }
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    write(folders[0].path(), model.path(), &few, quantization);
    write(folders[1].path(), model.path(), &plain, Value::Null);
    let prompt = &expected_text(name).prompts[1].ids;
    for kind in EXECUTORS {
        let [few, plain] =
            folders.each_ref().map(|folder| logits(load(folder.path(), kind).as_mut(), prompt, prompt.len()));
        let mut far: Vec<f32> = few.iter().zip(&plain).map(|(a, b)| distance(a, b)).collect();
        far.sort_by(f32::total_cmp);
        let far = far[(far.len() - 1) * near.percent / 100];
        assert!(far < near.most, "{name} on {kind:?}: {far}");
    }
    let [few, _] = folders;
    few
}

fn words(numbers: impl IntoIterator<Item = u32>) -> Vec<u8> {
    numbers.into_iter().flat_map(u32::to_le_bytes).collect()
}

fn largest(numbers: impl IntoIterator<Item = f32>) -> f32 {
    numbers.into_iter().fold(1e-6, |most, number| most.max(number.abs()))
}

/// E4M3 in blocks of 32 rows and 32 columns.
fn fp8(rows: usize, cols: usize, numbers: &[f32]) -> Quantized {
    let number = |code: u8| {
        let (exponent, fraction) = (i32::from(code >> 3 & 15), f32::from(code & 7));
        let sign = if code < 128 { 1.0 } else { -1.0 };
        sign * if exponent == 0 { fraction / 512.0 } else { (8.0 + fraction) * 2.0_f32.powi(exponent - 10) }
    };
    let usable: Vec<u8> = (0..=255).filter(|code| code & 127 != 127).collect();
    let (across, down) = (cols.div_ceil(32), rows.div_ceil(32));
    let of = |block: usize| {
        let lines = (0..rows).filter(move |row| row / 32 == block / across);
        lines.flat_map(move |row| {
            (0..cols).filter(move |col| col / 32 == block % across).map(move |col| (row, col))
        })
    };
    let scales: Vec<f32> = (0..down * across)
        .map(|block| largest(of(block).map(|(row, col)| numbers[row * cols + col])) / 448.0)
        .collect();
    let (mut codes, mut meant) = (Vec::new(), Vec::new());
    for (at, wanted) in numbers.iter().enumerate() {
        let scale = scales[at / cols / 32 * across + at % cols / 32];
        let far = |code: &&u8| (number(**code) * scale - wanted).abs();
        let code = *usable.iter().min_by(|a, b| far(a).total_cmp(&far(b))).unwrap();
        codes.push(code);
        meant.push(number(code) * scale);
    }
    let codes = Stored { dtype: "F8_E4M3", shape: vec![rows, cols], bytes: codes };
    (vec![("weight", codes), ("weight_scale_inv", Stored::f32(vec![down, across], &scales))], meant)
}

#[test]
fn fp8_blocks() {
    let config =
        json!({"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [32, 32]});
    let folder = check_format("qwen3", config.clone(), PLAIN, fp8);
    check_told(&folder, "FP8 (E4M3)", "F32");
    check_format("qwen3-moe", config.clone(), PLAIN, fp8);
    check_format("deepseek-v3", config, PLAIN, fp8);
}

/// Whole numbers of four bits, `[rows, columns]`, with a scale and a zero for each row and group of columns.
struct Groups {
    codes: Vec<u32>,
    /// Both `[groups, rows]`.
    zeros: Vec<u32>,
    scales: Vec<u16>,
    meant: Vec<f32>,
}

fn grouped(rows: usize, cols: usize, numbers: &[f32], group: impl Fn(usize) -> usize) -> Groups {
    let count = (0..cols).map(&group).max().unwrap() + 1;
    let (mut zeros, mut scales) = (Vec::new(), Vec::new());
    for at in 0..count * rows {
        let line = &numbers[at % rows * cols..][..cols];
        let own =
            line.iter().enumerate().filter(|(col, _)| group(*col) == at / rows).map(|(_, number)| *number);
        let (least, most) =
            own.fold((0.0_f32, 0.0_f32), |(least, most), number| (least.min(number), most.max(number)));
        let scale = half::f16::from_f32((most - least) / 14.0);
        scales.push(scale.to_bits());
        zeros.push((-least / scale.to_f32()).round().clamp(1.0, 14.0) as u32);
    }
    let (mut codes, mut meant) = (Vec::new(), Vec::new());
    for (at, number) in numbers.iter().enumerate() {
        let place = group(at % cols) * rows + at / cols;
        let (scale, zero) = (half::f16::from_bits(scales[place]).to_f32(), zeros[place] as f32);
        let code = (number / scale + zero).round().clamp(0.0, 15.0);
        codes.push(code as u32);
        meant.push(scale * (code - zero));
    }
    Groups { codes, zeros, scales, meant }
}

/// Packs eight numbers of four bits; `order` says which of them lies where, from the lowest bits.
fn eight(order: [usize; 8], number: impl Fn(usize) -> u32) -> u32 {
    order.into_iter().enumerate().map(|(place, at)| number(at) << (4 * place)).sum()
}

fn halves(shape: Vec<usize>, bits: &[u16]) -> Stored {
    Stored { dtype: "F16", shape, bytes: bits.iter().flat_map(|bits| bits.to_le_bytes()).collect() }
}

/// Whether a matrix stays plain: debug builds of candle multiply with an even number of five-bit blocks only.
fn stays_plain(cols: usize) -> bool {
    !cols.is_multiple_of(64)
}

const IN_ORDER: [usize; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
const EVEN_FIRST: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

fn gptq(rows: usize, cols: usize, numbers: &[f32], group: impl Fn(usize) -> usize) -> Quantized {
    let Groups { codes, zeros, scales, meant } = grouped(rows, cols, numbers, &group);
    let count = scales.len() / rows;
    let weight = (0..cols / 8).flat_map(|line| (0..rows).map(move |row| (line, row)));
    let weight = weight.map(|(line, row)| eight(IN_ORDER, |at| codes[row * cols + line * 8 + at]));
    let zeros = (0..zeros.len() / 8).map(|word| eight(IN_ORDER, |at| zeros[word * 8 + at] - 1));
    let integers = |shape: &[usize], bytes| Stored { dtype: "I32", shape: shape.to_vec(), bytes };
    let parts = vec![
        ("qweight", integers(&[cols / 8, rows], words(weight))),
        ("qzeros", integers(&[count, rows / 8], words(zeros))),
        ("g_idx", integers(&[cols], words((0..cols).map(|col| group(col) as u32)))),
        ("scales", halves(vec![count, rows], &scales)),
    ];
    (parts, meant)
}

/// GPTQ with groups of 32 inputs that follow each other, and a bias of such numbers beside each matrix.
fn gptq_in_order(name: &str, near: Near, bias: f32) -> TempDir {
    let config = json!({"quant_method": "gptq", "bits": 4, "group_size": 32, "checkpoint_format": "gptq"});
    check_format(name, config, near, |rows, cols, numbers| {
        if stays_plain(cols) {
            return (Vec::new(), numbers.to_vec());
        }
        let (mut parts, meant) = gptq(rows, cols, numbers, |col| col / 32);
        parts.push(("bias", Stored::f32(vec![rows], &vec![bias; rows])));
        (parts, meant)
    })
}

/// A tiny model in four bits of GPTQ.
pub(crate) fn gptq_llama() -> TempDir {
    gptq_in_order("llama", BLOCKS, 0.0)
}

#[test]
fn gptq_with_groups_in_order() {
    let folder = gptq_llama();
    check_told(&folder, "GPTQ (4 bit)", "Q5_0");
    let info = inspect(&folder.path().into()).unwrap();
    assert!(info.left_out.iter().all(|tensor| tensor.name.ends_with("_proj.bias")));
    assert!(!info.left_out.is_empty(), "biases of zeros change nothing");
    gptq_in_order("qwen3-moe", EXPERTS, 0.0);
}

/// Biases that a family does not have are an error where they would change something.
#[test]
#[should_panic(expected = "_proj.bias")]
fn gptq_with_biases_of_numbers() {
    gptq_in_order("llama", BLOCKS, 0.5);
}

/// Inputs of a group lie anywhere, so numbers become F16.
#[test]
fn gptq_with_act_order() {
    let config = json!({"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": true});
    let quantize = |rows, cols, numbers: &[f32]| {
        let (parts, meant) = gptq(rows, cols, numbers, |col| col * 5 % cols / 32);
        (parts, meant.into_iter().map(|number| half::f16::from_f32(number).to_f32()).collect())
    };
    let folder = check_format("llama", config.clone(), PLAIN, quantize);
    check_told(&folder, "GPTQ (4 bit)", "F16");
    check_format("qwen3-moe", config, PLAIN, quantize);
}

#[test]
fn awq() {
    let config =
        json!({"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": true});
    let folder = check_format("llama", config, BLOCKS, |rows, cols, numbers| {
        if stays_plain(cols) {
            return (Vec::new(), numbers.to_vec());
        }
        let Groups { codes, zeros, scales, meant } = grouped(rows, cols, numbers, |col| col / 32);
        let count = scales.len() / rows;
        let weight = (0..cols * rows / 8).map(|word| {
            let (col, row) = (word / (rows / 8), word % (rows / 8) * 8);
            eight(EVEN_FIRST, |at| codes[(row + at) * cols + col])
        });
        let zeros = (0..zeros.len() / 8).map(|word| eight(EVEN_FIRST, |at| zeros[word * 8 + at]));
        let integers = |shape: &[usize], bytes| Stored { dtype: "I32", shape: shape.to_vec(), bytes };
        let parts = vec![
            ("qweight", integers(&[cols, rows / 8], words(weight))),
            ("qzeros", integers(&[count, rows / 8], words(zeros))),
            ("scales", halves(vec![count, rows], &scales)),
        ];
        (parts, meant)
    });
    check_told(&folder, "AWQ (4 bit)", "Q5_0");
}

#[test]
fn nf4() {
    let table: Vec<f32> =
        (0..16).map(|code| ((code as f32 - 7.0) / 8.5).powi(3) + (code as f32 - 7.0) / 20.0).collect();
    let config = json!({"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4"});
    let folder = check_format("llama", config, PLAIN, |rows, cols, numbers| {
        let scales: Vec<f32> = numbers.chunks(64).map(|block| largest(block.iter().copied())).collect();
        let code = |(at, number): (usize, &f32)| {
            let far = |code: &usize| (table[*code] * scales[at / 64] - number).abs();
            (0..16).min_by(|a, b| far(a).total_cmp(&far(b))).unwrap()
        };
        let codes: Vec<usize> = numbers.iter().enumerate().map(code).collect();
        let meant = codes.iter().enumerate().map(|(at, code)| table[*code] * scales[at / 64]).collect();
        let bytes = |shape: Vec<usize>, bytes| Stored { dtype: "U8", shape, bytes };
        let state = json!({"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [rows, cols]})
            .to_string();
        let packed = codes.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
        let parts = vec![
            ("weight", bytes(vec![rows * cols / 2, 1], packed)),
            ("weight.absmax", Stored::f32(vec![scales.len()], &scales)),
            ("weight.quant_map", Stored::f32(vec![16], &table)),
            ("weight.quant_state.bitsandbytes__nf4", bytes(vec![state.len()], state.into_bytes())),
        ];
        (parts, meant)
    });
    check_told(&folder, "NF4", "F32");
}

#[test]
fn llm_int8() {
    let folder = check_format("qwen3", json!({"load_in_8bit": true}), PLAIN, |rows, cols, numbers| {
        let scales: Vec<f32> = numbers.chunks(cols).map(|row| largest(row.iter().copied())).collect();
        let codes: Vec<i8> = numbers
            .iter()
            .enumerate()
            .map(|(at, number)| (number / scales[at / cols] * 127.0).round() as i8)
            .collect();
        let meant =
            codes.iter().enumerate().map(|(at, code)| f32::from(*code) * scales[at / cols] / 127.0).collect();
        let bytes = codes.iter().map(|code| code.cast_unsigned()).collect();
        let parts = vec![
            ("weight", Stored { dtype: "I8", shape: vec![rows, cols], bytes }),
            ("SCB", Stored::f32(vec![rows], &scales)),
            ("weight_format", Stored { dtype: "U8", shape: Vec::new(), bytes: vec![0] }),
        ];
        (parts, meant)
    });
    check_told(&folder, "LLM.int8", "F32");
}

/// Checks what is told of a folder.
#[track_caller]
fn check_told(folder: &TempDir, stored: &str, kept: &str) {
    let info = inspect(&folder.path().into()).unwrap();
    assert!(info.weight_kinds.contains_key(stored), "{:?}", info.weight_kinds);
    assert_eq!(info.unpacked_kinds.get(stored).map(String::as_str), Some(kept));
    let file = std::fs::metadata(folder.path().join("model.safetensors")).unwrap().len();
    assert!(info.file_bytes <= file, "{} of {file}", info.file_bytes);
}

/// What a folder is refused with if its configuration says `quantization`.
fn refusal(quantization: Value) -> String {
    let model = TinyModel::new("llama").write();
    let weights = Weights::open(model.path()).unwrap();
    let stored = |name: &str| {
        let raw = weights.read(name).unwrap();
        (name.to_owned(), Stored::f32(raw.shape.clone(), &raw.to_f32().unwrap()))
    };
    let mut tensors: BTreeMap<String, Stored> = weights.names().map(stored).collect();
    let codes = Stored { dtype: "I16", shape: vec![2], bytes: vec![0; 4] };
    tensors.insert("model.layers.0.mlp.up_proj.codes".to_owned(), codes);
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), model.path(), &tensors, quantization);
    let config: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("config.json")).unwrap()).unwrap();
    hub_models::spec_of(&Weights::open(folder.path()).unwrap(), Some(&config)).unwrap_err().to_string()
}

#[test]
fn other_kinds_are_refused_by_name() {
    let tensor = "model.layers.0.mlp.up_proj.codes";
    for (quantization, part) in [
        (json!({"quant_method": "aqlm"}), "aqlm"),
        (json!({"quant_method": "compressed-tensors", "format": "pack-quantized"}), "pack-quantized"),
        (json!({"quant_method": "awq", "version": "gemv"}), "gemv"),
        (json!({"quant_method": "gptq", "checkpoint_format": "marlin"}), "marlin"),
        (json!({"bits": 4}), "unnamed"),
    ] {
        let error = refusal(quantization);
        assert!(error.contains(part) && error.contains(tensor), "{error}");
    }
}

#[test]
fn a_layer_that_guesses_further_tokens_is_left_out() {
    for name in ["deepseek-v3", "glm4-flash"] {
        let folder = TinyModel::new(name).write();
        let (path, source) = (folder.path().join("model.safetensors"), folder.path().to_owned().into());
        let weights = Weights::open(folder.path()).unwrap();
        let stored = |name: &str| {
            let raw = weights.read(name).unwrap();
            (name.to_owned(), Stored::f32(raw.shape.clone(), &raw.to_f32().unwrap()))
        };
        let mut tensors: BTreeMap<String, Stored> = weights.names().map(stored).collect();
        let layers = inspect(&source).unwrap().layers;
        let mut add = |layer: usize, part: &str| {
            tensors.insert(format!("model.layers.{layer}.{part}.weight"), Stored::f32(vec![2], &[1.0, 2.0]));
            write_safetensors(&path, &tensors);
        };
        add(layers, "enorm");
        assert!(inspect(&source).is_err(), "{name}: it could be a layer like the others");
        add(layers, "eh_proj");
        let left_out = inspect(&source).unwrap().left_out;
        assert_eq!(left_out.len(), 2, "{name}: {left_out:?}");
    }
}
