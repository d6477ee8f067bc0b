use std::{borrow::Cow, sync::Arc};

use candle_core::{
    Device, Tensor,
    quantized::{QStorage, QTensor},
};

use hub_kernels::{Cpu, Packed};

use super::{Error, WeightKind, assembled::Assembly, kind::elements_of};

/// Where a tensor lies and what it is; its numbers are still in the file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TensorInfo {
    /// The lengths of its axes, the slowest first: a linear layer is `[out, in]`, as in PyTorch.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub kind: WeightKind,
    /// Which of the sources holds it.
    pub(super) source: usize,
    /// Where in that source it starts; the parser has checked that it ends there, too.
    pub(super) offset: u64,
    pub(super) len: usize,
    /// How its rows are made of other tensors, where it is not stored itself.
    pub(super) assembly: Option<Arc<dyn Assembly>>,
}

/// Assembled tensors are the same if what they look like is.
impl PartialEq for TensorInfo {
    fn eq(&self, other: &Self) -> bool {
        let place = |info: &Self| (info.source, info.offset, info.len, info.assembly.is_some());
        (&self.shape, self.kind, place(self)) == (&other.shape, other.kind, place(other))
    }
}

impl Eq for TensorInfo {}

impl TensorInfo {
    /// Returns how many bytes the tensor takes as it is read: in the file, unless it is made of other tensors there.
    pub fn bytes(&self) -> u64 {
        self.len as u64
    }

    /// Returns how many bytes the tensor, or what it is made of, takes in the files.
    pub fn stored_bytes(&self) -> u64 {
        self.assembly.as_ref().map_or(self.len as u64, |assembly| assembly.stored_bytes())
    }

    /// Returns what the files store: the kind, or the name of the format that the tensor is made from.
    pub fn stored_as(&self) -> &'static str {
        self.assembly.as_ref().map_or(self.kind.as_str(), |assembly| assembly.format())
    }

    /// Returns how many bytes so many of its numbers take, in whole blocks.
    pub(crate) fn bytes_of(&self, numbers: u64) -> u64 {
        numbers / self.kind.block_len() as u64 * self.kind.block_bytes() as u64
    }

    /// Returns how many numbers the tensor holds.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns the length of the first axis, 1 for a scalar.
    pub fn rows(&self) -> usize {
        match self.shape.as_slice() {
            [] => 1,
            [len] => *len,
            [rows @ .., _] => rows.iter().product(),
        }
    }
}

/// A tensor in memory, stored as it was in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawTensor {
    /// The lengths of its axes, the slowest first.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub kind: WeightKind,
    /// The numbers, little endian, row after row.
    pub bytes: Vec<u8>,
}

impl RawTensor {
    /// Makes an [`WeightKind::F32`] tensor of `values`, row after row.
    ///
    /// # Errors
    /// [`Error::Convert`] if `values` are not as many as the shape says.
    pub fn from_f32(shape: Vec<usize>, values: &[f32]) -> Result<Self, Error> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = Self { shape, kind: WeightKind::F32, bytes };
        tensor.check_len(WeightKind::F32)?;
        Ok(tensor)
    }

    /// Returns the numbers as `f32`, row after row, unpacked if they are quantized.
    ///
    /// # Errors
    /// [`Error::Convert`] for whole numbers and truth values, and if the bytes are not as many as the shape says.
    pub fn to_f32(&self) -> Result<Vec<f32>, Error> {
        self.check_len(WeightKind::F32)?;
        let values = match self.kind {
            WeightKind::F32 => numbers(&self.bytes, f32::from_le_bytes),
            WeightKind::F16 => numbers(&self.bytes, |bytes| half::f16::from_le_bytes(bytes).to_f32()),
            WeightKind::BF16 => numbers(&self.bytes, |bytes| half::bf16::from_le_bytes(bytes).to_f32()),
            #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what was asked for")]
            WeightKind::F64 => numbers(&self.bytes, |bytes| f64::from_le_bytes(bytes) as f32),
            WeightKind::MXFP4 => self.bytes.as_chunks().0.iter().flat_map(mxfp4).collect(),
            kind if kind.is_quantized() && kind.to_ggml().is_none() => self.unpack()?,
            _ => {
                let cpu = Device::Cpu;
                let unpacked =
                    self.to_qtensor(&cpu)?.dequantize(&cpu).and_then(|tensor| tensor.flatten_all());
                unpacked
                    .and_then(|tensor| tensor.to_vec1())
                    .map_err(|error| self.refuse(WeightKind::F32, error))?
            }
        };
        Ok(values)
    }

    /// Unpacks a kind that candle does not know.
    fn unpack(&self) -> Result<Vec<f32>, Error> {
        let cols = self.shape.last().copied().unwrap_or(1);
        let values = elements_of(&self.shape).unwrap_or(0);
        let Some(kind) = self.kind.to_kernels().filter(|_| values > 0) else { return Ok(Vec::new()) };
        let packed = Packed::pack(kind, values / cols, cols, &self.bytes)
            .map_err(|error| self.refuse(WeightKind::F32, error))?;
        let mut numbers = vec![0.0; values];
        numbers.chunks_exact_mut(cols).enumerate().for_each(|(row, out)| packed.unpack(row, out));
        Ok(numbers)
    }

    /// Stores the same numbers as `kind`: as [`hub_kernels::quantize`] rounds them, or candle where that does not.
    ///
    /// # Errors
    /// [`Error::Convert`] if `kind` holds no fractions, if rows are not whole blocks of it, or if a number is not finite.
    pub fn quantize(&self, kind: WeightKind) -> Result<Self, Error> {
        let Some(ggml) = kind.to_ggml() else {
            return Err(self.refuse(kind, "that kind is not a weight"));
        };
        if kind.bytes_of(&self.shape).is_none() {
            let reason = format!("rows must be whole blocks of {} numbers", kind.block_len());
            return Err(self.refuse(kind, reason));
        }
        let values = self.to_f32()?;
        if values.iter().any(|value| !value.is_finite()) {
            return Err(self.refuse(kind, "it holds a number that is infinite or not a number"));
        }
        let len = values.len();
        if let Some(target) = kind.to_kernels().filter(|target| target.is_target()) {
            let mut bytes = vec![0; len / kind.block_len() * kind.block_bytes()];
            hub_kernels::quantize(target, &values, &mut bytes, &Cpu::single())
                .map_err(|error| self.refuse(kind, error))?;
            return Ok(Self { shape: self.shape.clone(), kind, bytes });
        }
        let bytes = Tensor::from_vec(values, len, &Device::Cpu)
            .and_then(|tensor| QTensor::quantize(&tensor, ggml))
            .and_then(|packed| packed.data().map(Cow::into_owned))
            .map_err(|error| self.refuse(kind, error))?;
        Ok(Self { shape: self.shape.clone(), kind, bytes })
    }

    /// Hands the bytes to candle as they are, without unpacking.
    ///
    /// # Errors
    /// [`Error::Convert`] if candle has no such kind, or the bytes are not as many as the shape says.
    pub(crate) fn to_qtensor(&self, device: &Device) -> Result<QTensor, Error> {
        self.check_len(self.kind)?;
        let Some(ggml) = self.kind.to_ggml() else {
            return Err(self.refuse(self.kind, "that kind is not a weight"));
        };
        // Candle looks at the bytes as blocks of up to four-byte alignment and panics where they do not start on one.
        // Allocators start every block on eight bytes or more, so this is a formality, but not one to panic over.
        if self.bytes.as_ptr().align_offset(4) != 0 {
            return Err(self.refuse(self.kind, "its memory is not aligned"));
        }
        // A scalar or an empty shape has no row; candle wants one.
        let shape = if self.shape.is_empty() { vec![1] } else { self.shape.clone() };
        QStorage::from_data(Cow::Borrowed(&self.bytes), device, ggml)
            .and_then(|storage| QTensor::new(storage, shape))
            .map_err(|error| self.refuse(self.kind, error))
    }

    fn check_len(&self, to: WeightKind) -> Result<(), Error> {
        match self.kind.bytes_of(&self.shape) {
            Some(len) if len == self.bytes.len() && elements_of(&self.shape).is_some() => Ok(()),
            Some(len) => {
                Err(self.refuse(to, format!("it should take {len} bytes and takes {}", self.bytes.len())))
            }
            None => Err(self.refuse(to, "its shape does not fit its kind")),
        }
    }

    fn refuse(&self, to: WeightKind, reason: impl ToString) -> Error {
        let (from, to) = (self.kind.as_str(), to.as_str());
        Error::Convert { shape: self.shape.clone(), from, to, reason: reason.to_string() }
    }
}

fn numbers<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| number(chunk)).collect()
}

/// Returns the numbers of a block of MXFP4 (OCP Microscaling Formats, version 1.0): with every exponent, where products take
/// those that an `f16` has.
fn mxfp4([exponent, codes @ ..]: &[u8; 17]) -> [f32; 32] {
    /// Twice the numbers that codes stand for.
    const E2M1: [f32; 16] =
        [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, -0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];
    // As gguf has it: the last exponent is one like the others.
    let scale = (f32::from(*exponent) - 128.0).exp2();
    std::array::from_fn(|at| {
        let byte = codes[at % 16];
        scale * E2M1[usize::from(if at < 16 { byte & 15 } else { byte >> 4 })]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(len: usize) -> Vec<f32> {
        (0..len).map(|idx| (idx as f32 * 0.37).sin()).collect()
    }

    /// Quantizes a wave of amplitude one and measures the worst error.
    #[track_caller]
    fn check(kind: WeightKind, tolerance: f32) {
        let values = wave(1024);
        let packed = RawTensor::from_f32(vec![2, 512], &values).unwrap().quantize(kind).unwrap();
        assert_eq!((packed.kind, packed.shape.as_slice()), (kind, [2, 512].as_slice()));
        assert_eq!(packed.bytes.len(), kind.bytes_of(&[2, 512]).unwrap());
        let worst =
            values.iter().zip(packed.to_f32().unwrap()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= tolerance, "{kind}: {worst}");
    }

    #[test]
    fn every_kind_keeps_the_numbers() {
        check(WeightKind::F32, 0.0);
        check(WeightKind::F16, 0.0005);
        check(WeightKind::BF16, 0.004);
        check(WeightKind::Q8_0, 0.005);
        check(WeightKind::Q6K, 0.04);
        check(WeightKind::Q5K, 0.07);
        check(WeightKind::Q5_1, 0.05);
        check(WeightKind::Q5_0, 0.08);
        check(WeightKind::Q4K, 0.12);
        check(WeightKind::Q4_1, 0.1);
        check(WeightKind::Q4_0, 0.15);
        check(WeightKind::Q3K, 0.3);
        check(WeightKind::Q2K, 0.5);
    }

    #[test]
    fn a_shape_that_does_not_fit_is_refused() {
        assert!(RawTensor::from_f32(vec![2, 2], &[0.0; 3]).is_err());
        let tensor = RawTensor::from_f32(vec![16, 16], &wave(256)).unwrap();
        assert!(matches!(tensor.quantize(WeightKind::Q4K), Err(Error::Convert { .. })));
        assert!(matches!(tensor.quantize(WeightKind::I8), Err(Error::Convert { .. })));
        let short = RawTensor { bytes: vec![0; 17], kind: WeightKind::Q4_0, shape: vec![32] };
        assert!(short.to_f32().is_err());
        let endless = RawTensor::from_f32(vec![32], &[f32::INFINITY; 32]).unwrap();
        assert!(endless.quantize(WeightKind::Q8_0).is_err());
    }
}
