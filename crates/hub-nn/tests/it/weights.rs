//! Files of both formats, written and read back.

use std::{collections::BTreeMap, fs, path::Path, thread};

use hub_base::ErrorKind;
use hub_nn::weights::{Array, Error, Format, Metadata, RawTensor, Value, WeightKind, Weights, write_gguf};
use safetensors::{Dtype, tensor::TensorView};

/// `rows` rows of `columns` numbers, each its place in the tensor.
fn counting(rows: usize, columns: usize) -> RawTensor {
    let values: Vec<f32> = (0..rows * columns).map(|idx| idx as f32).collect();
    RawTensor::from_f32(vec![rows, columns], &values).unwrap()
}

fn write_safetensors(path: &Path, tensors: &[(&str, Dtype, &[usize], &[u8])]) {
    let views = tensors
        .iter()
        .map(|&(name, dtype, shape, bytes)| (name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[track_caller]
fn refused(path: &Path, kind: ErrorKind, text: &str) {
    let error = Weights::open(path).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

#[test]
fn gguf_keeps_every_kind_of_tensor() {
    let plain = counting(4, 256);
    let tensors: Vec<(String, RawTensor)> = WeightKind::all()
        .filter_map(|kind| Some((format!("blk.{kind}.weight"), plain.quantize(kind).ok()?)))
        .collect();
    assert_eq!(tensors.len(), 13, "every kind that can be a weight");
    let weights =
        Weights::from_gguf_bytes(write_gguf(Vec::new(), &Metadata::default(), &tensors).unwrap()).unwrap();
    assert_eq!(weights.format(), Format::Gguf);
    assert!(weights.names().eq(tensors.iter().map(|(name, _)| name)));
    assert_eq!(
        weights.total_bytes(),
        tensors.iter().map(|(_, tensor)| tensor.bytes.len() as u64).sum::<u64>()
    );
    for (name, tensor) in &tensors {
        assert_eq!(&weights.read(name).unwrap(), tensor);
        assert_eq!(weights.info(name).unwrap().shape, [4, 256]);
        let rows = weights.read_rows(name, 1..3).unwrap();
        assert_eq!(rows.shape, [2, 256]);
        assert_eq!(rows.to_f32().unwrap(), tensor.to_f32().unwrap()[256..768]);
    }
}

#[test]
fn gguf_keeps_every_kind_of_value() {
    let nested = Array::Array(vec![Array::U8(vec![1, 2]), Array::String(vec!["á".to_owned()])]);
    let metadata = Metadata::from_iter([
        ("u8", Value::from(1_u8)),
        ("i8", Value::from(-1_i8)),
        ("u16", Value::from(2_u16)),
        ("i16", Value::from(-2_i16)),
        ("u32", Value::from(3_u32)),
        ("i32", Value::from(-3_i32)),
        ("u64", Value::from(u64::MAX)),
        ("i64", Value::from(i64::MIN)),
        ("f32", Value::from(0.5_f32)),
        ("f64", Value::from(0.1_f64)),
        ("bool", Value::from(true)),
        ("string", Value::from("xin chào")),
        ("strings", Value::from(vec!["a".to_owned(), String::new()])),
        ("f32s", Value::from(vec![0.5_f32; 70_000])),
        ("bools", Value::from(vec![true, false])),
        ("nested", Value::Array(nested)),
        ("general.alignment", Value::from(64_u32)),
    ]);
    let tensors = [("a".to_owned(), counting(1, 3)), ("b".to_owned(), counting(2, 2))];
    let file = tempfile::NamedTempFile::new().unwrap();
    write_gguf(fs::File::create(file.path()).unwrap(), &metadata, &tensors).unwrap();
    let weights = Weights::open(file.path()).unwrap();
    assert_eq!(weights.metadata(), &metadata);
    assert_eq!(weights.metadata().str("string"), Some("xin chào"));
    assert_eq!(weights.metadata().bools("bools"), Some(vec![true, false]));
    assert_eq!(weights.read("b").unwrap().to_f32().unwrap(), [0.0, 1.0, 2.0, 3.0]);
}

/// Writes part `number` of two, with a tensor of `rows` rows called `name`.
fn write_part(folder: &Path, file: &str, number: u16, tensors: u64, name: &str) {
    let metadata = Metadata::from_iter([
        ("split.no", Value::U16(number)),
        ("split.count", Value::U16(2)),
        ("split.tensors.count", Value::U64(tensors)),
        ("is_first", Value::Bool(number == 0)),
    ]);
    let tensors = [(name.to_owned(), counting(2, 2 + usize::from(number)))];
    write_gguf(fs::File::create(folder.join(file)).unwrap(), &metadata, &tensors).unwrap();
}

#[test]
fn gguf_in_parts_is_one_model() {
    let (first, second) = ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf");
    let whole = tempfile::tempdir().unwrap();
    write_part(whole.path(), first, 0, 2, "a");
    write_part(whole.path(), second, 1, 2, "b");
    for path in [whole.path().to_owned(), whole.path().join(first), whole.path().join(second)] {
        let weights = Weights::open(&path).unwrap();
        assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(weights.files().count(), 2);
        assert_eq!(weights.metadata().get("is_first"), Some(&Value::Bool(true)));
        assert_eq!(weights.read("b").unwrap(), counting(2, 3));
        assert_eq!(weights.read_rows("a", 1..2).unwrap().to_f32().unwrap(), [2.0, 3.0]);
    }
    let other = tempfile::tempdir().unwrap();
    let alone = other.path().join(second);
    write_part(other.path(), second, 1, 2, "b");
    refused(&alone, ErrorKind::Corrupt, "m-00001-of-00002.gguf, is not there");
    write_part(other.path(), first, 1, 2, "a");
    refused(&alone, ErrorKind::Corrupt, "not part 1 of 2");
    write_part(other.path(), first, 0, 2, "b");
    refused(&alone, ErrorKind::Corrupt, "tensor `b` is in another shard");
    write_part(other.path(), first, 0, 3, "a");
    refused(&other.path().join(first), ErrorKind::Corrupt, "hold 2 tensors, where it says 3");
    fs::rename(&alone, other.path().join("renamed.gguf")).unwrap();
    refused(&other.path().join("renamed.gguf"), ErrorKind::Unsupported, "part 2 of 2");
}

/// llama.cpp can leave the metadata alone in the first part, and counts tensors in an `i32`.
#[test]
fn a_first_part_may_hold_no_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let write = |number: u16, found: i32, tensors: &[(String, RawTensor)]| {
        let metadata = Metadata::from_iter([
            ("split.no", Value::U16(number)),
            ("split.count", Value::U16(2)),
            ("split.tensors.count", Value::I32(found)),
        ]);
        let path = folder.path().join(format!("m-{:05}-of-00002.gguf", number + 1));
        write_gguf(fs::File::create(&path).unwrap(), &metadata, tensors).unwrap();
        path
    };
    let only = [("a".to_owned(), counting(2, 2))];
    let first = write(0, 1, &[]);
    let second = write(1, 1, &only);
    for path in [&first, &second] {
        assert_eq!(Weights::open(path).unwrap().read("a").unwrap(), only[0].1);
    }
    write(0, 2, &[]);
    refused(&first, ErrorKind::Corrupt, "hold 1 tensors, where it says 2");
}

#[test]
fn safetensors_keeps_every_kind() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..16).collect();
    let kinds = [
        (Dtype::F64, WeightKind::F64, 2),
        (Dtype::F32, WeightKind::F32, 4),
        (Dtype::F16, WeightKind::F16, 8),
        (Dtype::BF16, WeightKind::BF16, 8),
        (Dtype::I64, WeightKind::I64, 2),
        (Dtype::I32, WeightKind::I32, 4),
        (Dtype::I16, WeightKind::I16, 8),
        (Dtype::I8, WeightKind::I8, 16),
        (Dtype::U8, WeightKind::U8, 16),
        (Dtype::BOOL, WeightKind::Bool, 16),
    ];
    let shapes: Vec<[usize; 2]> = kinds.iter().map(|&(_, _, len)| [2, len / 2]).collect();
    let tensors: Vec<_> = kinds
        .iter()
        .zip(&shapes)
        .map(|(&(dtype, kind, _), shape)| (kind.as_str(), dtype, shape.as_slice(), bytes.as_slice()))
        .collect();
    write_safetensors(&folder.path().join("model.safetensors"), &tensors);
    let weights = Weights::open(folder.path()).unwrap();
    assert_eq!(weights.format(), Format::Safetensors);
    assert!(weights.metadata().is_empty());
    for (_, kind, len) in kinds {
        let tensor = weights.read(kind.as_str()).unwrap();
        assert_eq!(tensor, RawTensor { shape: vec![2, len / 2], kind, bytes: bytes.clone() });
        assert_eq!(weights.read_rows(kind.as_str(), 1..2).unwrap().bytes, bytes[8..]);
    }
}

#[test]
fn rows_that_are_not_there_are_refused() {
    let tensors =
        [("a".to_owned(), counting(3, 2)), ("v".to_owned(), RawTensor::from_f32(vec![], &[1.0]).unwrap())];
    let weights =
        Weights::from_gguf_bytes(write_gguf(Vec::new(), &Metadata::default(), &tensors).unwrap()).unwrap();
    assert_eq!(weights.read_rows("a", 3..3).unwrap().bytes, Vec::<u8>::new());
    assert_eq!(weights.read_rows("v", 0..1).unwrap().to_f32().unwrap(), [1.0]);
    for rows in [2..4, 4..4, 0..usize::MAX, usize::MAX..usize::MAX] {
        assert!(matches!(weights.read_rows("a", rows), Err(Error::Rows { rows: 3, .. })));
    }
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
    let backwards = 2..1;
    assert!(matches!(weights.read_rows("a", backwards), Err(Error::Rows { .. })));
    assert!(matches!(weights.read("b"), Err(Error::Missing { .. })));
}

#[test]
fn threads_read_at_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let tensors: Vec<_> = (1..9).map(|rows| (format!("t{rows}"), counting(rows, 512))).collect();
    write_gguf(fs::File::create(file.path()).unwrap(), &Metadata::default(), &tensors).unwrap();
    let weights = Weights::open(file.path()).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (name, tensor) in &tensors {
                    assert_eq!(&weights.read(name).unwrap(), tensor);
                }
            });
        }
    });
}

/// A model of two shards, one tensor each.
fn sharded(folder: &Path, map: &[(&str, &str)]) {
    let value = 1.5_f32.to_le_bytes();
    write_safetensors(&folder.join("one.safetensors"), &[("a", Dtype::F32, &[1], &value)]);
    write_safetensors(&folder.join("two.safetensors"), &[("b", Dtype::F32, &[1], &value)]);
    let map: BTreeMap<_, _> = map.iter().copied().collect();
    let index = serde_json::json!({ "metadata": { "total_size": 8 }, "weight_map": map });
    fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

#[test]
fn shards_are_one_model() {
    let folder = tempfile::tempdir().unwrap();
    sharded(folder.path(), &[("a", "one.safetensors"), ("b", "two.safetensors")]);
    let weights = Weights::open(folder.path()).unwrap();
    assert!(weights.names().eq(["a", "b"]));
    assert_eq!(weights.read("b").unwrap().to_f32().unwrap(), [1.5]);
}

#[test]
fn an_index_that_is_wrong_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    sharded(path, &[("a", "one.safetensors"), ("b", "three.safetensors")]);
    refused(path, ErrorKind::Corrupt, "three.safetensors, which is not there");
    sharded(path, &[("a", "one.safetensors"), ("b", "two.safetensors"), ("c", "two.safetensors")]);
    refused(path, ErrorKind::Corrupt, "two.safetensors holds tensor `c`, which it does not");
    sharded(path, &[("a", "one.safetensors"), ("b", "../two.safetensors")]);
    refused(path, ErrorKind::Corrupt, "not a file beside it");
    sharded(path, &[("a", "one.safetensors"), ("b", "two.safetensors")]);
    fs::copy(path.join("one.safetensors"), path.join("two.safetensors")).unwrap();
    refused(path, ErrorKind::Corrupt, "tensor `a` is in another shard, too");
    fs::write(path.join("model.safetensors.index.json"), "{").unwrap();
    refused(path, ErrorKind::Corrupt, "index.json");
}

#[test]
fn what_is_no_model_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    refused(&path.join("absent"), ErrorKind::NotFound, "no such file");
    refused(path, ErrorKind::NotFound, "holds neither");
    fs::write(path.join("pytorch_model.bin"), "PK").unwrap();
    refused(path, ErrorKind::Unsupported, "pickle");
    refused(&path.join("pytorch_model.bin"), ErrorKind::Unsupported, "pickle");
    fs::write(path.join("one.gguf"), "GGUF").unwrap();
    refused(path, ErrorKind::Corrupt, "cut short");
    fs::write(path.join("two.gguf"), "GGUF").unwrap();
    refused(path, ErrorKind::InvalidInput, "one.gguf, two.gguf");
    fs::write(path.join("notes.txt"), "GUFG and some more").unwrap();
    refused(&path.join("notes.txt"), ErrorKind::Unsupported, "neither safetensors nor GGUF");
    fs::write(path.join("empty"), "").unwrap();
    refused(&path.join("empty"), ErrorKind::Unsupported, "neither safetensors nor GGUF");
}

/// Writes the head of a GGUF file by hand: version, counts, and what follows.
fn head(version: u32, tensors: u64, pairs: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(pairs.to_le_bytes());
    bytes.extend(rest);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

#[track_caller]
fn refused_gguf(bytes: Vec<u8>, kind: ErrorKind, part: &str) {
    let error = Weights::from_gguf_bytes(bytes).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

#[test]
fn promises_are_checked_before_memory_is_taken() {
    let petabyte = 1_u64 << 50;
    refused_gguf(head(3, petabyte, 0, &[0; 64]), ErrorKind::Corrupt, "promises 1125899906842624 tensors");
    refused_gguf(head(3, 0, petabyte, &[0; 64]), ErrorKind::Corrupt, "promises 1125899906842624 keys");
    let key = [text("k"), 8_u32.to_le_bytes().to_vec(), petabyte.to_le_bytes().to_vec()].concat();
    refused_gguf(head(3, 0, 1, &key), ErrorKind::Corrupt, "bytes of text");
    for kind in 0_u32..13 {
        let list = [text("k"), 9_u32.to_le_bytes().to_vec(), kind.to_le_bytes().to_vec()];
        refused_gguf(
            head(3, 0, 1, &[list.concat(), u64::MAX.to_le_bytes().to_vec()].concat()),
            ErrorKind::Corrupt,
            "promises",
        );
    }
    let tensor = |dims: &[u64], kind: u32, offset: u64| {
        let mut bytes = text("t");
        bytes.extend((dims.len() as u32).to_le_bytes());
        bytes.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes.extend([0; 256]);
        head(3, 1, 0, &bytes)
    };
    assert!(Weights::from_gguf_bytes(tensor(&[4], 0, 0)).is_ok());
    refused_gguf(tensor(&[petabyte], 0, 0), ErrorKind::Corrupt, "past the end");
    refused_gguf(tensor(&[petabyte, petabyte], 0, 0), ErrorKind::Corrupt, "cannot be stored");
    refused_gguf(tensor(&[u64::MAX], 1, 0), ErrorKind::Corrupt, "`t`");
    refused_gguf(tensor(&[4], 0, u64::MAX - 31), ErrorKind::Corrupt, "past the end");
    refused_gguf(tensor(&[4], 0, 4), ErrorKind::Corrupt, "multiple of 32");
    refused_gguf(tensor(&[16], 2, 0), ErrorKind::Corrupt, "Q4_0");
    let unread = [(19, "IQ1_S"), (29, "IQ1_M"), (34, "TQ1_0"), (35, "TQ2_0"), (40, "NVFP4"), (41, "Q1_0")];
    for (number, name) in unread.into_iter().chain([(99, "type 99")]) {
        let message = format!("tensor `t` of the GGUF file in memory is stored as {name}");
        refused_gguf(tensor(&[256], number, 0), ErrorKind::Unsupported, &message);
    }
    refused_gguf(tensor(&[1; 5], 0, 0), ErrorKind::Corrupt, "5 axes");
}

#[test]
fn variants_that_are_not_read_say_what_to_do() {
    refused_gguf(head(1, 0, 0, &[]), ErrorKind::Unsupported, "GGUF version 1");
    refused_gguf(head(3_u32.swap_bytes(), 0, 0, &[]), ErrorKind::Unsupported, "big-endian");
    let split = Metadata::from_iter([("split.count", 3_u16)]);
    let bytes = write_gguf(Vec::new(), &split, &[]).unwrap();
    refused_gguf(bytes, ErrorKind::Corrupt, "split.no is None of 3 parts");
    let split = Metadata::from_iter([("split.count", 3_u16), ("split.no", 1)]);
    let bytes = write_gguf(Vec::new(), &split, &[]).unwrap();
    refused_gguf(bytes, ErrorKind::Corrupt, "other parts of its model");
    let odd = Metadata::from_iter([("general.alignment", 24_u32)]);
    refused_gguf(write_gguf(Vec::new(), &odd, &[]).unwrap(), ErrorKind::Corrupt, "power of two");
    let pair = [text("k"), 0_u32.to_le_bytes().to_vec(), vec![7]].concat();
    refused_gguf(head(3, 0, 2, &[pair.clone(), pair].concat()), ErrorKind::Corrupt, "`k` twice");
    let nested = (0..64).flat_map(|_| [9_u32.to_le_bytes().to_vec(), 1_u64.to_le_bytes().to_vec()].concat());
    let deep = [text("k"), 9_u32.to_le_bytes().to_vec(), nested.collect()].concat();
    refused_gguf(head(3, 0, 1, &deep), ErrorKind::Corrupt, "nests lists");
}

#[track_caller]
fn refused_safetensors(header: &str, kind: ErrorKind, part: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 16]].concat();
    fs::write(file.path(), bytes).unwrap();
    refused(file.path(), kind, part);
}

#[test]
fn headers_of_safetensors_are_checked() {
    let tensor = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    refused_safetensors(&tensor("F4", "[4]", "[0,4]"), ErrorKind::Unsupported, "stored as F4");
    refused_safetensors(&tensor("F32", "[4]", "[0,12]"), ErrorKind::Corrupt, "takes 16 bytes");
    refused_safetensors(&tensor("F32", "[4]", "[16,0]"), ErrorKind::Corrupt, "takes 16 bytes");
    refused_safetensors(&tensor("F32", "[8]", "[0,32]"), ErrorKind::Corrupt, "cut short");
    refused_safetensors(
        &tensor("F32", "[4294967296,4294967296]", "[0,0]"),
        ErrorKind::Corrupt,
        "impossible shape",
    );
    refused_safetensors(&tensor("F32", "[-1]", "[0,4]"), ErrorKind::Corrupt, "header");
    refused_safetensors("{", ErrorKind::Corrupt, "header");
    let entry = r#""t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    refused_safetensors(&format!("{{{entry},{entry}}}"), ErrorKind::Corrupt, "two tensors `t`");
    let inside = r#""u":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}"#;
    refused_safetensors(&format!("{{{entry},{inside}}}"), ErrorKind::Corrupt, "share bytes");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), [&(1_u64 << 50).to_le_bytes()[..], b"{}"].concat()).unwrap();
    refused(file.path(), ErrorKind::Corrupt, "1125899906842624 bytes");
}

/// Every kind of block, over all its bytes, as llama.cpp's `gguf` for Python unpacks it.
#[test]
fn blocks_are_unpacked_as_llama_cpp_unpacks_them() {
    let text = std::fs::read_to_string(hub_fixtures::root().join("kinds/expected.json")).unwrap();
    let expected: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(&text).unwrap();
    assert!(expected.len() >= 18);
    for (name, expected) in expected {
        let kind = WeightKind::all().find(|kind| kind.as_str() == name).unwrap();
        let bytes = |key: &str| -> Vec<u8> {
            let text = &expected[key];
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let numbers: Vec<f32> =
            bytes("numbers").as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let tensor = RawTensor { shape: vec![2, numbers.len() / 2], kind, bytes: bytes("blocks") };
        for (at, (found, expected)) in tensor.to_f32().unwrap().iter().zip(&numbers).enumerate() {
            // Kinds with tables lose nothing: a scale, a number and their product fit an `f32`.
            if name.starts_with("IQ") {
                assert_eq!(found, expected, "{name} {at}");
            }
            // Kinds with minima are sums of two products, which may be rounded together.
            assert!(
                (found - expected).abs() <= expected.abs() * 1e-6 + 1e-7,
                "{name} {at}: {found} for {expected}"
            );
        }
    }
}
