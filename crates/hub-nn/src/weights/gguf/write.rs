use std::io::{self, Write};

use super::{ALIGNMENT, MAGIC, MAX_DIMS, types};
use crate::weights::{Array, Error, Metadata, RawTensor, Value, WeightKind};

/// Writes a GGUF file, version 3, tensor by tensor, so that only one needs to be in memory.
///
/// ```
/// use hub_nn::weights::{GgufWriter, Metadata, WeightKind, Weights};
///
/// # fn main() -> Result<(), hub_nn::weights::Error> {
/// let metadata = Metadata::from_iter([("general.architecture", "llama")]);
/// let plan = [("ones".to_owned(), vec![2, 1], WeightKind::F32)];
/// let mut writer = GgufWriter::new(Vec::new(), &metadata, plan)?;
/// writer.tensor(&[0, 0, 128, 63, 0, 0, 128, 63])?;
///
/// let weights = Weights::from_gguf_bytes(writer.finish()?)?;
/// assert_eq!(weights.read("ones")?.to_f32()?, [1.0, 1.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct GgufWriter<W> {
    out: W,
    alignment: u64,
    /// The tensors that are still to come, the next one last.
    planned: Vec<Planned>,
}

/// A tensor that is not written yet, or not all of it.
#[derive(Debug)]
struct Planned {
    name: String,
    len: usize,
    /// How many of its bytes are still to come.
    left: usize,
}

/// Writes a whole GGUF file.
///
/// # Errors
/// As [`GgufWriter::new`] and [`GgufWriter::tensor`].
pub fn write_gguf<W: Write>(
    out: W,
    metadata: &Metadata,
    tensors: &[(String, RawTensor)],
) -> Result<W, Error> {
    let plan = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone(), tensor.kind));
    let mut writer = GgufWriter::new(out, metadata, plan)?;
    for (_, tensor) in tensors {
        writer.tensor(&tensor.bytes)?;
    }
    writer.finish()
}

impl<W: Write> GgufWriter<W> {
    /// Writes the head: the pairs, and the names, shapes and kinds of the tensors that will follow in this order.
    ///
    /// Tensors start at multiples of `general.alignment` if the pairs hold it, of 32 bytes if not.
    ///
    /// # Errors
    /// [`Error::Unwritable`] for a tensor that the format cannot hold, [`Error::Write`] if `out` fails.
    pub fn new(
        mut out: W,
        metadata: &Metadata,
        tensors: impl IntoIterator<Item = (String, Vec<usize>, WeightKind)>,
    ) -> Result<Self, Error> {
        let alignment =
            metadata.u64("general.alignment").filter(|n| n.is_power_of_two()).unwrap_or(ALIGNMENT);
        let mut planned = Vec::new();
        let mut infos = Vec::new();
        let mut offset = 0_u64;
        for (name, shape, kind) in tensors {
            let refuse = |reason: &str| Error::Unwritable { name: name.clone(), reason: reason.to_owned() };
            let number = kind.to_gguf().ok_or_else(|| refuse("GGUF has no such kind"))?;
            let len = kind.bytes_of(&shape).ok_or_else(|| refuse("its rows are not whole blocks"))?;
            if shape.len() > MAX_DIMS as usize {
                return Err(refuse("GGUF allows four axes"));
            }
            write_text(&mut infos, &name);
            infos.extend((shape.len() as u32).to_le_bytes());
            for &dim in shape.iter().rev() {
                infos.extend((dim as u64).to_le_bytes());
            }
            infos.extend(number.to_le_bytes());
            infos.extend(offset.to_le_bytes());
            let next = offset.checked_add(len as u64).and_then(|end| end.checked_next_multiple_of(alignment));
            offset = next.ok_or_else(|| refuse("the file would be too large"))?;
            planned.push(Planned { name, len, left: len });
        }
        planned.reverse();
        let mut head = Vec::new();
        head.extend(MAGIC);
        head.extend(3_u32.to_le_bytes());
        head.extend((planned.len() as u64).to_le_bytes());
        head.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata.iter() {
            write_text(&mut head, key);
            write_value(&mut head, value);
        }
        head.extend(infos);
        pad(&mut head, alignment);
        out.write_all(&head).map_err(write_error)?;
        Ok(Self { out, alignment, planned })
    }

    /// Writes the bytes of the next tensor.
    ///
    /// # Errors
    /// [`Error::Unwritable`] if no tensor is due or it has another length, [`Error::Write`] if the output fails.
    pub fn tensor(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self.planned.last() {
            Some(Planned { name, left, .. }) if *left != bytes.len() => {
                let reason = format!("it should take {left} bytes and takes {}", bytes.len());
                Err(Error::Unwritable { name: name.clone(), reason })
            }
            _ => self.next(bytes),
        }
    }

    /// Writes the next bytes of a tensor, so that not all of it needs to be in memory.
    ///
    /// # Errors
    /// [`Error::Unwritable`] if no tensor is due or so many bytes are not, [`Error::Write`] if the output fails.
    pub fn piece(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.skip_empty();
        match self.planned.last() {
            Some(Planned { name, left, .. }) if *left < bytes.len() => {
                let reason = format!("{left} bytes of it are due and {} come", bytes.len());
                Err(Error::Unwritable { name: name.clone(), reason })
            }
            _ => self.next(bytes),
        }
    }

    /// Writes bytes of the tensor that is due, and what fills it up to where the next one starts.
    fn next(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(due) = self.planned.last_mut() else {
            return Err(Error::Unwritable { name: String::new(), reason: "no tensor is due".to_owned() });
        };
        self.out.write_all(bytes).map_err(write_error)?;
        due.left -= bytes.len();
        if due.left > 0 {
            return Ok(());
        }
        let padding = vec![0; due.len.next_multiple_of(self.alignment as usize) - due.len];
        self.planned.pop();
        self.out.write_all(&padding).map_err(write_error)
    }

    /// Passes over tensors that hold nothing.
    fn skip_empty(&mut self) {
        while self.planned.last().is_some_and(|due| due.len == 0) {
            self.planned.pop();
        }
    }

    /// Flushes the output and returns it.
    ///
    /// # Errors
    /// [`Error::Unwritable`] if a tensor is still due, [`Error::Write`] if the output fails.
    pub fn finish(mut self) -> Result<W, Error> {
        self.skip_empty();
        if let Some(Planned { name, .. }) = self.planned.pop() {
            return Err(Error::Unwritable { name, reason: "it was planned and never written".to_owned() });
        }
        self.out.flush().map_err(write_error)?;
        Ok(self.out)
    }
}

fn write_error(source: io::Error) -> Error {
    Error::Write { source }
}

fn pad(out: &mut Vec<u8>, alignment: u64) {
    out.resize(out.len().next_multiple_of(alignment as usize), 0);
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    fn put<const N: usize>(out: &mut Vec<u8>, kind: u32, bytes: [u8; N]) {
        out.extend(kind.to_le_bytes());
        out.extend(bytes);
    }
    match value {
        Value::U8(value) => put(out, types::U8, value.to_le_bytes()),
        Value::I8(value) => put(out, types::I8, value.to_le_bytes()),
        Value::U16(value) => put(out, types::U16, value.to_le_bytes()),
        Value::I16(value) => put(out, types::I16, value.to_le_bytes()),
        Value::U32(value) => put(out, types::U32, value.to_le_bytes()),
        Value::I32(value) => put(out, types::I32, value.to_le_bytes()),
        Value::U64(value) => put(out, types::U64, value.to_le_bytes()),
        Value::I64(value) => put(out, types::I64, value.to_le_bytes()),
        Value::F32(value) => put(out, types::F32, value.to_le_bytes()),
        Value::F64(value) => put(out, types::F64, value.to_le_bytes()),
        Value::Bool(value) => put(out, types::BOOL, [u8::from(*value)]),
        Value::String(value) => {
            out.extend(types::STRING.to_le_bytes());
            write_text(out, value);
        }
        Value::Array(values) => {
            out.extend(types::ARRAY.to_le_bytes());
            write_array(out, values);
        }
    }
}

fn write_array(out: &mut Vec<u8>, values: &Array) {
    fn put<T: Copy, const N: usize>(
        out: &mut Vec<u8>,
        kind: u32,
        values: &[T],
        bytes: impl Fn(T) -> [u8; N],
    ) {
        start(out, kind, values.len());
        out.extend(values.iter().flat_map(|&value| bytes(value)));
    }
    fn start(out: &mut Vec<u8>, kind: u32, len: usize) {
        out.extend(kind.to_le_bytes());
        out.extend((len as u64).to_le_bytes());
    }
    match values {
        Array::U8(values) => put(out, types::U8, values, u8::to_le_bytes),
        Array::I8(values) => put(out, types::I8, values, i8::to_le_bytes),
        Array::U16(values) => put(out, types::U16, values, u16::to_le_bytes),
        Array::I16(values) => put(out, types::I16, values, i16::to_le_bytes),
        Array::U32(values) => put(out, types::U32, values, u32::to_le_bytes),
        Array::I32(values) => put(out, types::I32, values, i32::to_le_bytes),
        Array::U64(values) => put(out, types::U64, values, u64::to_le_bytes),
        Array::I64(values) => put(out, types::I64, values, i64::to_le_bytes),
        Array::F32(values) => put(out, types::F32, values, f32::to_le_bytes),
        Array::F64(values) => put(out, types::F64, values, f64::to_le_bytes),
        Array::Bool(values) => put(out, types::BOOL, values, |value| [u8::from(value)]),
        Array::String(values) => {
            start(out, types::STRING, values.len());
            values.iter().for_each(|value| write_text(out, value));
        }
        Array::Array(values) => {
            start(out, types::ARRAY, values.len());
            values.iter().for_each(|value| write_array(out, value));
        }
    }
}
