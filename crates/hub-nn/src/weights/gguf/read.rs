use indexmap::{IndexMap, map::Entry};

use super::{ALIGNMENT, MAGIC, MAX_DIMS, MAX_NESTING, cursor::Cursor, types};
use crate::weights::{
    Array, Error, Metadata, TensorInfo, Value, WeightKind, apart::check_apart, source::Source,
};

/// What the head of a GGUF file says.
#[derive(Debug)]
pub(in crate::weights) struct Head {
    pub(in crate::weights) metadata: Metadata,
    pub(in crate::weights) tensors: IndexMap<String, TensorInfo>,
}

/// Reads the head of a GGUF file. `index` is the place of `source` among the sources of the model.
pub(in crate::weights) fn read_head(source: &Source, index: usize) -> Result<Head, Error> {
    let mut cursor = Cursor::new(source);
    if cursor.array::<4>()? != *MAGIC {
        return Err(Error::UnknownFormat { file: source.name().to_owned() });
    }
    check_version(source, cursor.u32()?)?;
    // A tensor takes a name of at least no bytes, no axes, a type and an offset; a pair at least an empty key and a byte.
    let tensors = cursor.count("tensors", 8 + 4 + 4 + 8)?;
    let pairs = cursor.count("keys", 8 + 4 + 1)?;
    let metadata = read_pairs(source, &mut cursor, pairs)?;
    let tensors = read_tensors(source, &mut cursor, tensors)?;
    let alignment = alignment(source, &metadata)?;
    let data = cursor.at().checked_next_multiple_of(alignment);
    let data = data.ok_or_else(|| source.corrupt(format!("its alignment is {alignment}")))?;
    let mut out = IndexMap::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let info = tensor.locate(source, &name, index, data, alignment)?;
        match out.entry(name) {
            Entry::Vacant(entry) => entry.insert(info),
            Entry::Occupied(entry) => {
                return Err(source.corrupt(format!("it holds two tensors `{}`", entry.key())));
            }
        };
    }
    check_apart(out.iter().map(|(name, info)| (name.as_str(), info)), source)?;
    Ok(Head { metadata, tensors: out })
}

fn check_version(source: &Source, version: u32) -> Result<(), Error> {
    let unsupported = |what, instead| Error::Unsupported { file: source.name().to_owned(), what, instead };
    match version {
        2 | 3 => Ok(()),
        // A big-endian 2 or 3 read as little-endian has its low half empty.
        _ if version & 0xffff == 0 && version != 0 => {
            Err(unsupported("a big-endian GGUF file".to_owned(), "use the little-endian file of the model"))
        }
        _ => Err(unsupported(
            format!("GGUF version {version}"),
            "versions 2 and 3 are read; convert it with llama.cpp",
        )),
    }
}

fn alignment(source: &Source, metadata: &Metadata) -> Result<u64, Error> {
    match metadata.get("general.alignment") {
        None => Ok(ALIGNMENT),
        Some(value) => match value.as_u64() {
            Some(alignment) if alignment.is_power_of_two() => Ok(alignment),
            _ => Err(source.corrupt(format!("general.alignment is {value:?}, not a power of two"))),
        },
    }
}

fn read_pairs(source: &Source, cursor: &mut Cursor<'_>, count: usize) -> Result<Metadata, Error> {
    let mut metadata = Metadata::default();
    for _ in 0..count {
        let key = cursor.name("key")?;
        let kind = cursor.u32()?;
        let value = read_value(source, cursor, kind, &key)?;
        if metadata.get(&key).is_some() {
            return Err(source.corrupt(format!("it holds key `{key}` twice")));
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

fn read_value(source: &Source, cursor: &mut Cursor<'_>, kind: u32, key: &str) -> Result<Value, Error> {
    Ok(match kind {
        types::U8 => Value::U8(u8::from_le_bytes(cursor.array()?)),
        types::I8 => Value::I8(i8::from_le_bytes(cursor.array()?)),
        types::U16 => Value::U16(u16::from_le_bytes(cursor.array()?)),
        types::I16 => Value::I16(i16::from_le_bytes(cursor.array()?)),
        types::U32 => Value::U32(cursor.u32()?),
        types::I32 => Value::I32(i32::from_le_bytes(cursor.array()?)),
        types::F32 => Value::F32(f32::from_le_bytes(cursor.array()?)),
        types::BOOL => Value::Bool(cursor.array::<1>()? != [0]),
        types::STRING => Value::String(cursor.text()?),
        types::ARRAY => Value::Array(read_array(source, cursor, key, 0)?),
        types::U64 => Value::U64(cursor.u64()?),
        types::I64 => Value::I64(i64::from_le_bytes(cursor.array()?)),
        types::F64 => Value::F64(f64::from_le_bytes(cursor.array()?)),
        _ => return Err(source.corrupt(format!("key `{key}` has unknown type {kind}"))),
    })
}

fn read_array(source: &Source, cursor: &mut Cursor<'_>, key: &str, depth: usize) -> Result<Array, Error> {
    let kind = cursor.u32()?;
    Ok(match kind {
        types::U8 => Array::U8(read_numbers(cursor, u8::from_le_bytes)?),
        types::I8 => Array::I8(read_numbers(cursor, i8::from_le_bytes)?),
        types::U16 => Array::U16(read_numbers(cursor, u16::from_le_bytes)?),
        types::I16 => Array::I16(read_numbers(cursor, i16::from_le_bytes)?),
        types::U32 => Array::U32(read_numbers(cursor, u32::from_le_bytes)?),
        types::I32 => Array::I32(read_numbers(cursor, i32::from_le_bytes)?),
        types::F32 => Array::F32(read_numbers(cursor, f32::from_le_bytes)?),
        types::BOOL => Array::Bool(read_numbers(cursor, |byte: [u8; 1]| byte != [0])?),
        types::U64 => Array::U64(read_numbers(cursor, u64::from_le_bytes)?),
        types::I64 => Array::I64(read_numbers(cursor, i64::from_le_bytes)?),
        types::F64 => Array::F64(read_numbers(cursor, f64::from_le_bytes)?),
        types::STRING => {
            let count = cursor.count("texts", 8)?;
            Array::String((0..count).map(|_| cursor.text()).collect::<Result<_, _>>()?)
        }
        types::ARRAY if depth < MAX_NESTING => {
            let count = cursor.count("lists", 4 + 8)?;
            let read = |_| read_array(source, cursor, key, depth + 1);
            Array::Array((0..count).map(read).collect::<Result<_, _>>()?)
        }
        types::ARRAY => {
            return Err(source.corrupt(format!("key `{key}` nests lists deeper than {MAX_NESTING}")));
        }
        _ => return Err(source.corrupt(format!("key `{key}` lists values of unknown type {kind}"))),
    })
}

fn read_numbers<const N: usize, T>(
    cursor: &mut Cursor<'_>,
    number: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, Error> {
    let count = cursor.count("numbers", N as u64)?;
    // The count fits into the file, so the product cannot overflow.
    let bytes = cursor.take(count * N)?;
    Ok(bytes.as_chunks::<N>().0.iter().map(|&chunk| number(chunk)).collect())
}

/// A tensor as the head describes it.
struct Described {
    shape: Vec<usize>,
    kind: WeightKind,
    /// From the start of the data.
    offset: u64,
}

fn read_tensors(
    source: &Source,
    cursor: &mut Cursor<'_>,
    count: usize,
) -> Result<Vec<(String, Described)>, Error> {
    (0..count).map(|_| read_tensor(source, cursor)).collect()
}

fn read_tensor(source: &Source, cursor: &mut Cursor<'_>) -> Result<(String, Described), Error> {
    let name = cursor.name("name of a tensor")?;
    let dims = cursor.u32()?;
    if dims > MAX_DIMS {
        return Err(source.corrupt(format!("tensor `{name}` has {dims} axes; the format allows {MAX_DIMS}")));
    }
    let mut shape = Vec::with_capacity(dims as usize);
    for _ in 0..dims {
        let dim = cursor.u64()?;
        let dim = usize::try_from(dim);
        shape.push(
            dim.map_err(|_| source.corrupt(format!("tensor `{name}` is larger than this machine's memory")))?,
        );
    }
    // The file names the fastest axis first, everything here the slowest.
    shape.reverse();
    let number = cursor.u32()?;
    let kind = WeightKind::from_gguf(number).ok_or_else(|| Error::UnsupportedTensor {
        file: source.name().to_owned(),
        name: name.clone(),
        dtype: types::tensor_type_name(number),
    })?;
    let offset = cursor.u64()?;
    Ok((name, Described { shape, kind, offset }))
}

impl Described {
    fn locate(
        self,
        source: &Source,
        name: &str,
        index: usize,
        data: u64,
        alignment: u64,
    ) -> Result<TensorInfo, Error> {
        let Self { shape, kind, offset } = self;
        let len = kind.bytes_of(&shape).ok_or_else(|| {
            source.corrupt(format!("tensor `{name}` of shape {shape:?} cannot be stored as {kind}"))
        })?;
        if !offset.is_multiple_of(alignment) {
            let reason =
                format!("tensor `{name}` starts at {offset}, which is not a multiple of {alignment}");
            return Err(source.corrupt(reason));
        }
        let start = data.checked_add(offset);
        let end = start.and_then(|start| start.checked_add(len as u64)).filter(|&end| end <= source.len());
        match (start, end) {
            (Some(offset), Some(_)) => Ok(TensorInfo { shape, kind, source: index, offset, len, assembly: None }),
            _ => Err(source.corrupt(format!(
                "tensor `{name}` takes {len} bytes from {offset} on, past the end of the file; it is cut short"
            ))),
        }
    }
}
