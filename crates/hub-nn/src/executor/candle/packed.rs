//! Matrices of kinds that candle does not know: packed in memory, and unpacked where they are used.

use std::{ops::Range, sync::Arc};

use candle_core::{DType, Device, Result, Tensor};
use hub_kernels::Packed;
use rayon::prelude::*;

use crate::weights::{RawTensor, WeightKind};

/// How many rows are unpacked at a time on the processor: at common widths they stay in L2.
const ROWS: usize = 64;
/// Bytes that hold the codes of a block of 32 numbers, two in each: the low halves are the first sixteen.
const CODES: usize = 16;

/// A matrix that is never whole in `f32`, but where a device has to multiply by it.
#[derive(Clone, Debug)]
pub(super) enum PackedMatrix {
    /// In the processor's memory.
    Host { packed: Arc<Packed>, device: Device },
    /// On the device, and unpacked there.
    Tabled(Tabled),
}

/// Blocks of 32 numbers, each a scale times an entry of a table: MXFP4 and IQ4_NL.
///
/// They are unpacked by looking up every byte, which candle can do on any device: a byte of codes stands for two numbers,
/// and what a scale is made of for one.
#[derive(Clone, Debug)]
pub(super) struct Tabled {
    /// `[rows, blocks, bytes]`, `u8`
    bytes: Tensor,
    /// `[256, 2]`
    numbers: Tensor,
    /// `[256]`, or `[65536]` where a scale has two bytes.
    scales: Tensor,
}

impl PackedMatrix {
    /// Packs a matrix for a device; `None` for a kind that is not packed.
    pub(super) fn of(raw: &RawTensor, device: &Device) -> Result<Option<Self>> {
        if !device.is_cpu()
            && let Some(tabled) = Tabled::of(raw, device)?
        {
            return Ok(Some(Self::Tabled(tabled)));
        }
        let [rows, cols] = raw.shape[..] else { return Ok(None) };
        let Some(kind) = raw.kind.to_kernels() else { return Ok(None) };
        let packed = Packed::pack(kind, rows, cols, &raw.bytes).map_err(candle_core::Error::wrap)?;
        Ok(Some(Self::Host { packed: Arc::new(packed), device: device.clone() }))
    }

    /// Multiplies rows `[rows, inputs]`, contiguous, into `[rows, outputs]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (packed, device) = match self {
            Self::Tabled(tabled) => return x.matmul(&Tabled::unpack(tabled, &tabled.bytes)?.t()?),
            Self::Host { packed, device } => (packed, device),
        };
        let outputs = packed.rows();
        if !device.is_cpu() {
            return x.matmul(&unpack(packed, 0..outputs, device)?.t()?);
        }
        let starts: Vec<usize> = (0..outputs).step_by(ROWS).collect();
        let piece = |start| x.matmul(&unpack(packed, start..outputs.min(start + ROWS), device)?.t()?);
        Tensor::cat(&starts.into_par_iter().map(piece).collect::<Result<Vec<Tensor>>>()?, 1)
    }

    /// Returns the rows `ids` (`[rows]`, `u32`) as `[rows, inputs]` in `f32`.
    pub(super) fn rows(&self, ids: &Tensor) -> Result<Tensor> {
        match self {
            Self::Tabled(tabled) => tabled.unpack(&tabled.bytes.index_select(ids, 0)?),
            Self::Host { packed, device } => {
                let ids: Vec<u32> = ids.to_vec1()?;
                let mut numbers = vec![0.0; ids.len() * packed.cols()];
                for (id, out) in ids.iter().zip(numbers.chunks_exact_mut(packed.cols().max(1))) {
                    packed.unpack(*id as usize, out);
                }
                Tensor::from_vec(numbers, (ids.len(), packed.cols()), device)
            }
        }
    }
}

/// Returns some rows in `f32`.
fn unpack(packed: &Packed, rows: Range<usize>, device: &Device) -> Result<Tensor> {
    let (count, cols) = (rows.len(), packed.cols());
    let mut numbers = vec![0.0; count * cols];
    for (row, out) in rows.zip(numbers.chunks_exact_mut(cols.max(1))) {
        packed.unpack(row, out);
    }
    Tensor::from_vec(numbers, (count, cols), device)
}

impl Tabled {
    /// Puts a matrix on a device; `None` for a kind that has other blocks.
    fn of(raw: &RawTensor, device: &Device) -> Result<Option<Self>> {
        let [rows, cols] = raw.shape[..] else { return Ok(None) };
        let scale_bytes = match raw.kind {
            WeightKind::MXFP4 => 1,
            WeightKind::IQ4NL => 2,
            _ => return Ok(None),
        };
        // The tables are what blocks mean in which each byte comes once.
        let meanings = |scale: [u8; 2], codes: [u8; CODES]| {
            let bytes = [&scale[..scale_bytes], &codes].concat();
            RawTensor { shape: vec![1, 2 * CODES], kind: raw.kind, bytes }.to_f32()
        };
        let one = if scale_bytes == 1 { [128, 0] } else { half::f16::ONE.to_le_bytes() };
        let mut numbers = vec![0.0; 512];
        for first in (0..256).step_by(CODES) {
            let codes: [u8; CODES] = std::array::from_fn(|at| (first + at) as u8);
            let found = meanings(one, codes).map_err(candle_core::Error::wrap)?;
            for at in 0..CODES {
                let pair =
                    [found.get(at), found.get(at + CODES)].map(|number| number.copied().unwrap_or(0.0));
                numbers[2 * (first + at)..][..2].copy_from_slice(&pair);
            }
        }
        // Code 1 of both tables is not zero, so a scale is what it is multiplied by.
        let unit = numbers[2];
        let count = 1_usize << (8 * scale_bytes);
        let mut scales = Vec::with_capacity(count);
        for scale in 0..count {
            let bytes = (scale as u16).to_le_bytes();
            let found = meanings(bytes, [1; CODES]).map_err(candle_core::Error::wrap)?;
            scales.push(found.first().copied().unwrap_or(0.0) / unit);
        }
        let shape = (rows, cols / (2 * CODES), scale_bytes + CODES);
        Ok(Some(Self {
            bytes: Tensor::from_slice(&raw.bytes, shape, device)?,
            numbers: Tensor::from_vec(numbers, (256, 2), device)?,
            scales: Tensor::from_vec(scales, count, device)?,
        }))
    }

    /// Returns blocks `[rows, blocks, bytes]` as `[rows, inputs]` in `f32`.
    fn unpack(&self, blocks: &Tensor) -> Result<Tensor> {
        let (rows, count, bytes) = blocks.dims3()?;
        let scale_bytes = bytes - CODES;
        let codes = blocks.narrow(2, scale_bytes, CODES)?.flatten_all()?;
        let numbers = self.numbers.index_select(&codes, 0)?.reshape((rows * count, CODES, 2))?;
        let numbers = numbers.transpose(1, 2)?.reshape((rows * count, 2 * CODES))?;
        let byte = |at| blocks.narrow(2, at, 1)?.flatten_all()?.to_dtype(DType::U32);
        let mut scale = byte(0)?;
        if scale_bytes == 2 {
            let high = Tensor::full(256_u32, scale.shape(), blocks.device())?;
            scale = (scale + (byte(1)? * high)?)?;
        }
        let scales = self.scales.index_select(&scale, 0)?.reshape((rows * count, 1))?;
        numbers.broadcast_mul(&scales)?.reshape((rows, count * 2 * CODES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a matrix of all bytes in turn, whose scales are numbers.
    fn raw(kind: WeightKind, rows: usize, cols: usize) -> RawTensor {
        let len = rows * cols / kind.block_len() * kind.block_bytes();
        let mut bytes: Vec<u8> = (0..len).map(|at| (at * 37 % 251) as u8).collect();
        for block in bytes.chunks_exact_mut(kind.block_bytes()) {
            // Scales of one byte are exponents, and those of two have their highest bits in the second: nothing infinite.
            block[1] &= 0x3f;
            block[0] = 105 + block[0] % 35;
        }
        RawTensor { shape: vec![rows, cols], kind, bytes }
    }

    #[track_caller]
    fn check(matrix: &PackedMatrix, raw: &RawTensor) {
        let plain = Tensor::from_vec(raw.to_f32().unwrap(), &raw.shape[..], &Device::Cpu).unwrap();
        let ids = Tensor::new(&[5_u32, 0, 5], &Device::Cpu).unwrap();
        let both = [matrix.rows(&ids).unwrap(), plain.index_select(&ids, 0).unwrap()];
        let [rows, expected] = both.map(|tensor| tensor.to_vec2::<f32>().unwrap());
        assert_eq!(rows, expected, "{}", raw.kind);
        let x = Tensor::ones((2, raw.shape[1]), DType::F32, &Device::Cpu).unwrap();
        let both = [matrix.forward(&x).unwrap(), x.matmul(&plain.t().unwrap()).unwrap()];
        let [product, expected] = both.map(|tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        for (number, expected) in product.iter().zip(&expected) {
            assert!(
                (number - expected).abs() <= expected.abs() * 1e-5 + 1e-30,
                "{}: {number} {expected}",
                raw.kind
            );
        }
    }

    #[test]
    fn packed_matrices_multiply_as_plain_ones() {
        for kind in [
            WeightKind::MXFP4,
            WeightKind::IQ4NL,
            WeightKind::IQ4XS,
            WeightKind::IQ3S,
            WeightKind::IQ3XXS,
            WeightKind::IQ2S,
            WeightKind::IQ2XS,
            WeightKind::IQ2XXS,
        ] {
            let raw = raw(kind, 70, 512);
            check(&PackedMatrix::of(&raw, &Device::Cpu).unwrap().unwrap(), &raw);
        }
    }

    #[test]
    fn tables_hold_what_blocks_mean() {
        for kind in [WeightKind::MXFP4, WeightKind::IQ4NL] {
            let raw = raw(kind, 70, 96);
            check(&PackedMatrix::Tabled(Tabled::of(&raw, &Device::Cpu).unwrap().unwrap()), &raw);
        }
        let other = raw(WeightKind::IQ4XS, 6, 256);
        assert!(Tabled::of(&other, &Device::Cpu).unwrap().is_none());
    }
}
