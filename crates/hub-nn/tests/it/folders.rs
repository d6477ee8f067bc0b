//! Quantized tensors of Hugging Face folders, against what other programs and the formats' formulas make of them.

use std::{collections::BTreeMap, fs};

use hub_base::ErrorKind;
use hub_nn::weights::{Error, WeightKind, Weights};
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Clone, Deserialize)]
struct Stored {
    dtype: String,
    shape: Vec<usize>,
    bytes: String,
}

#[derive(Clone, Deserialize)]
struct Case {
    quantization_config: Value,
    tensors: BTreeMap<String, Stored>,
    tensor: String,
    kind: String,
    shape: Vec<usize>,
    numbers: String,
}

impl Case {
    /// Opens the case as a folder.
    fn open(&self) -> Result<(Weights, tempfile::TempDir), Error> {
        let (mut header, mut data) = (Map::new(), Vec::new());
        for (name, stored) in &self.tensors {
            let start = data.len();
            data.extend(bytes(&stored.bytes));
            let entry =
                json!({"dtype": stored.dtype, "shape": stored.shape, "data_offsets": [start, data.len()]});
            header.insert(name.clone(), entry);
        }
        let header = Value::Object(header).to_string();
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
        let folder = tempfile::tempdir().unwrap();
        let config = json!({"quantization_config": self.quantization_config});
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        fs::write(folder.path().join("model.safetensors"), file).unwrap();
        Ok((Weights::open(folder.path())?, folder))
    }

    fn part(&mut self, name: &str) -> &mut Stored {
        self.tensors.get_mut(name).unwrap()
    }

    fn stored_bytes(&self) -> usize {
        self.tensors.values().map(|stored| stored.bytes.len() / 2).sum()
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn cases() -> BTreeMap<String, Case> {
    let text = fs::read_to_string(hub_fixtures::root().join("kinds/folders.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_format_means_what_its_formula_says() {
    let cases = cases();
    assert!(cases.len() >= 40);
    for (name, case) in &cases {
        let (weights, _folder) = case.open().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(weights.names().eq([&case.tensor]), "{name}: {:?}", weights.names().collect::<Vec<_>>());
        let raw = weights.read(&case.tensor).unwrap();
        assert_eq!((raw.kind.as_str(), &raw.shape), (case.kind.as_str(), &case.shape), "{name}");
        let expected = bytes(&case.numbers);
        let expected = expected.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        for (at, (found, expected)) in raw.to_f32().unwrap().into_iter().zip(expected).enumerate() {
            let is_same = found == expected || (found.is_nan() && expected.is_nan());
            assert!(is_same, "{name} {at}: {found} for {expected}");
        }
    }
}

#[test]
fn some_rows_are_those_of_the_whole() {
    for (name, case) in &cases() {
        let (weights, _folder) = case.open().unwrap();
        let whole = weights.read(&case.tensor).unwrap();
        let rows = weights.info(&case.tensor).unwrap().rows();
        let row = whole.bytes.len() / rows;
        for start in 0..=rows.min(26) {
            for end in [start, start + 1, start + 5, start + 8, rows].map(|end| end.clamp(start, rows)) {
                let some = weights.read_rows(&case.tensor, start..end).unwrap();
                assert!(some.bytes == whole.bytes[start * row..end * row], "{name} {start}..{end}");
            }
        }
        assert!(matches!(weights.read_rows(&case.tensor, 0..rows + 1), Err(Error::Rows { .. })));
    }
}

#[test]
fn what_is_stored_is_told() {
    let told = |name: &str| {
        let case = &cases()[name];
        let (weights, _folder) = case.open().unwrap();
        let info = weights.info(&case.tensor).unwrap();
        assert_eq!(weights.stored_bytes(), info.stored_bytes());
        assert!(info.stored_bytes() as usize <= case.stored_bytes());
        info.stored_as()
    };
    assert_eq!(told("fp8 blocks"), "FP8 (E4M3)");
    assert_eq!(told("fp8 e5m2"), "FP8 (E5M2)");
    assert_eq!(told("gptq 4 symmetric"), "GPTQ (4 bit)");
    assert_eq!(told("awq"), "AWQ (4 bit)");
    assert_eq!(told("nf4 nested"), "NF4");
    assert_eq!(told("int8"), "LLM.int8");
    assert_eq!(told("mxfp4"), "MXFP4");
}

/// Checks that a case with something wrong is refused, and that the error names what.
#[track_caller]
fn check(name: &str, kind: ErrorKind, part: &str, spoil: impl FnOnce(&mut Case)) {
    let mut case = cases().remove(name).unwrap();
    spoil(&mut case);
    let error = case.open().map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

#[test]
fn parts_that_do_not_fit_are_named() {
    use ErrorKind::{Corrupt, Unsupported};
    for (name, part) in [
        ("gptq 4 with zeros", "a.qzeros"),
        ("gptq 4 with zeros", "a.scales"),
        ("awq", "a.scales"),
        ("nf4", "a.weight"),
        ("nf4", "a.weight.absmax"),
        ("nf4", "a.weight.quant_map"),
        ("nf4 nested", "a.weight.nested_absmax"),
        ("nf4 nested", "a.weight.nested_quant_map"),
        ("int8", "a.weight"),
    ] {
        check(name, Corrupt, part, |case| drop(case.tensors.remove(part)));
    }
    let reshape = |stored: &mut Stored, shape: &[usize]| stored.shape = shape.to_vec();
    check("gptq 4 with zeros", Corrupt, "a.qweight", |case| reshape(case.part("a.qweight"), &[16, 16]));
    check("gptq 4 with zeros", Corrupt, "a.g_idx", |case| reshape(case.part("a.g_idx"), &[32, 2]));
    check("gptq 4 with zeros", Corrupt, "group 255", |case| {
        case.part("a.g_idx").bytes.replace_range(..8, "ff000000");
    });
    check("gptq 4 with zeros", Unsupported, "3 bits", |case| {
        let zeros = case.part("a.qzeros");
        reshape(zeros, &[2, 3]);
        zeros.bytes.truncate(2 * 3 * 8);
    });
    check("int8", Corrupt, "a.SCB", |case| reshape(case.part("a.SCB"), &[2, 3]));
    check("int8", Unsupported, "a.weight", |case| case.part("a.weight_format").bytes = "01".to_owned());
    check("fp8 blocks", Corrupt, "a.weight_scale_inv", |case| {
        case.quantization_config["weight_block_size"] = json!([4, 64]);
    });
    check("fp8 blocks", Corrupt, "weight_block_size", |case| {
        case.quantization_config["weight_block_size"] = json!([0, 64]);
    });
    check("fp8 blocks", Corrupt, "quantization_config", |case| {
        case.quantization_config["weight_block_size"] = json!("many");
    });
    let state = "a.weight.quant_state.bitsandbytes__nf4";
    let say = |case: &mut Case, from: &str, to: &str| {
        let text = String::from_utf8(bytes(&case.part(state).bytes)).unwrap().replace(from, to);
        case.part(state).shape = vec![text.len()];
        case.part(state).bytes = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    };
    check("nf4", Corrupt, state, |case| say(case, "shape", "form"));
    check("nf4", Corrupt, "a.weight", |case| say(case, "[6, 64]", "[6, 65]"));
    check("nf4", Corrupt, "a.weight", |case| say(case, "[6, 64]", "[18446744073709551615, 2]"));
    check("nf4", Corrupt, "a.weight", |case| say(case, "64,", "0,"));
    check("nf4", Unsupported, "int4", |case| say(case, "bfloat16", "int4"));
    check("mxfp4", Corrupt, "a_scales", |case| case.part("a_scales").dtype = "BOOL".to_owned());
}

/// A folder may hold a matrix and the parts of one of the same name; neither is better than the other.
#[test]
fn a_name_means_one_tensor() {
    check("awq", ErrorKind::Corrupt, "a.weight", |case| {
        let plain = Stored { dtype: "F16".to_owned(), shape: vec![1], bytes: "0000".to_owned() };
        case.tensors.insert("a.weight".to_owned(), plain);
    });
}

/// Experts are packed together, so all must become the same kind whatever their own zeros and scales are.
#[test]
fn matrices_of_a_format_become_the_same_kind() {
    let kinds = |one: &str, other: &str| -> Vec<WeightKind> {
        let (mut case, other) = (cases()[one].clone(), cases()[other].clone());
        case.tensors.extend(other.tensors.into_iter().map(|(name, part)| (format!("b{}", &name[1..]), part)));
        let (weights, _folder) = case.open().unwrap();
        weights.names().map(|name| weights.info(name).unwrap().kind).collect()
    };
    assert_eq!(kinds("gptq 4 symmetric", "gptq 4 with zeros"), [WeightKind::Q5_0; 2]);
    assert_eq!(kinds("gptq 4 symmetric", "gptq 2 with zeros"), [WeightKind::Q4_0; 2]);
    assert_eq!(kinds("fp8 powers of two", "fp8 blocks"), [WeightKind::F32; 2]);
}

/// Opens and reads what is left of a case: numbers or an error, whatever the files say.
fn read_all(case: &Case) {
    let Ok((weights, _folder)) = case.open() else { return };
    for name in weights.names() {
        if weights.read(name).is_ok() {
            let rows = weights.info(name).unwrap().rows();
            let _ = weights.read_rows(name, rows / 2..rows);
        }
    }
}

#[test]
fn parts_that_contradict_each_other_never_panic() {
    // The second version of GPTQ has the same tensors.
    for case in cases().iter().filter(|(name, _)| !name.contains("v2")).map(|(_, case)| case) {
        for name in case.tensors.keys() {
            let mut without = case.clone();
            without.tensors.remove(name);
            read_all(&without);
            let part = &case.tensors[name];
            let len = part.bytes.len() / 2;
            let shapes = |size: usize| {
                let count = len / size;
                let halves = [vec![2, count / 2], vec![count / 2, 2], vec![2, 2, count / 4]];
                let odd = [
                    vec![],
                    vec![0],
                    vec![0, 7],
                    vec![7, 0],
                    vec![1, 1],
                    vec![count.saturating_sub(1)],
                    vec![1, 0, count],
                ];
                let same =
                    [vec![count], vec![1, count], vec![count, 1], vec![1, count, 1], vec![count, 1, 1]];
                halves.into_iter().chain(odd).chain(same).chain([part.shape.clone()])
            };
            for (dtype, size) in [
                ("U8", 1),
                ("I8", 1),
                ("F8_E4M3", 1),
                ("F8_E5M2", 1),
                ("F8_E8M0", 1),
                ("F16", 2),
                ("BF16", 2),
                ("F32", 4),
                ("I32", 4),
                ("I64", 8),
            ] {
                for shape in shapes(size) {
                    let mut other = case.clone();
                    let bytes = shape.iter().product::<usize>() * size * 2;
                    if bytes > part.bytes.len() {
                        continue;
                    }
                    let bytes = part.bytes[..bytes].to_owned();
                    other.tensors.insert(name.clone(), Stored { dtype: dtype.to_owned(), shape, bytes });
                    read_all(&other);
                }
            }
        }
    }
}

#[test]
fn descriptions_cut_short_or_overwritten_never_panic() {
    for (name, part) in
        [("nf4 nested", "a.weight.quant_state.bitsandbytes__nf4"), ("gptq 4 with zeros act order", "a.g_idx")]
    {
        let case = cases().remove(name).unwrap();
        let whole = bytes(&case.tensors[part].bytes);
        for at in 0..whole.len() {
            for byte in [b'0', b'9', b'-', 0xff] {
                let mut other = case.clone();
                let start = at * 2;
                other.part(part).bytes.replace_range(start..start + 2, &format!("{byte:02x}"));
                read_all(&other);
            }
            let mut other = case.clone();
            if other.part(part).dtype == "U8" {
                other.part(part).bytes.truncate(at * 2);
                other.part(part).shape = vec![at];
                read_all(&other);
            }
        }
    }
}
