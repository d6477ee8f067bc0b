//! Tensors that are made of several stored ones: matrices of few bits in Hugging Face folders, whose scales lie beside
//! them.
//!
//! A format finds its parts among the tensors of the files, takes them out, and puts one tensor in their place: of the
//! name a plain folder has for it, in rows of a kind that executors know. What those rows are is made of the parts where
//! they are read. The kind is the smallest that loses nothing: every number is what the published formula of the format
//! gives, to the bit.

mod bits4;
mod fp8;
mod gptq;
mod grouped;
mod heads;
mod int8;
mod mxfp4;
mod plain;
mod stored;

use std::{ops::Range, sync::Arc};

use indexmap::IndexMap;

use self::stored::{Made, Stored};
use super::{
    Error, TensorInfo, WeightKind, Weights, quantization_config::QuantizationConfig, source::Source,
};

/// How the rows of an assembled tensor are made of its parts.
pub(super) trait Assembly: std::fmt::Debug + Send + Sync {
    /// Returns the name of the format that the parts are stored in.
    fn format(&self) -> &'static str;

    /// Returns how many bytes the parts take in the files.
    fn stored_bytes(&self) -> u64;

    /// Fills `out` with some rows, in the kind that the tensor is said to have.
    fn rows(&self, weights: &Weights, rows: Range<usize>, out: &mut [u8]) -> Result<(), Error>;
}

/// Finds the tensors that are made of parts, and says which parts those are.
type Find = fn(&Stored<'_>) -> Result<Made, Error>;

static FORMATS: &[Find] = &[mxfp4::find, fp8::find, gptq::find, bits4::find, int8::find, heads::find];

/// Puts tensors in place of the parts they are made of. `file` is what errors call the files.
pub(super) fn assemble(
    file: &str,
    sources: &[Source],
    quantization: &QuantizationConfig,
    tensors: &mut IndexMap<String, TensorInfo>,
) -> Result<(), Error> {
    for find in FORMATS {
        let Made { made, taken } = find(&Stored { file, sources, tensors, quantization })?;
        if made.is_empty() {
            continue;
        }
        tensors.retain(|name, _| !taken.contains(name));
        for (name, info) in made {
            if let Some(other) = tensors.insert(name.clone(), info) {
                let reason =
                    format!("tensor `{name}` is there as {}, and as parts of one as well", other.kind);
                return Err(Error::Corrupt { file: file.to_owned(), reason });
            }
        }
    }
    Ok(())
}

/// Returns a tensor that is made of parts; `None` if it has more numbers than can be counted.
fn assembled(shape: Vec<usize>, kind: WeightKind, assembly: impl Assembly + 'static) -> Option<TensorInfo> {
    let len = kind.bytes_of(&shape)?;
    Some(TensorInfo { shape, kind, source: 0, offset: 0, len, assembly: Some(Arc::new(assembly)) })
}

/// The bytes that some lines of a stored matrix have between two places.
#[derive(Clone, Copy, Debug)]
struct Lines {
    /// How many bytes a whole line takes.
    line: usize,
    start: usize,
    end: usize,
}

/// Lines are read with what lies between their parts while that is at most so many times as much.
const WINDOW: usize = 16;

impl Lines {
    /// Returns the parts of some lines, one after another.
    fn read(self, weights: &Weights, info: &TensorInfo, lines: Range<usize>) -> Result<Vec<u8>, Error> {
        let Self { line, start, end } = self;
        let width = end - start;
        let mut out = vec![0; lines.len() * width];
        if width == 0 {
            return Ok(out);
        }
        if line > width * WINDOW {
            for (line_index, out) in lines.zip(out.chunks_exact_mut(width)) {
                weights.read_bytes(info, line_index * line + start, out)?;
            }
            return Ok(out);
        }
        if width == line {
            weights.read_bytes(info, lines.start * line, &mut out)?;
            return Ok(out);
        }
        let mut whole = vec![0; lines.len() * line];
        weights.read_bytes(info, lines.start * line, &mut whole)?;
        for (out, whole) in out.chunks_exact_mut(width).zip(whole.chunks_exact(line)) {
            out.copy_from_slice(&whole[start..end]);
        }
        Ok(out)
    }
}
