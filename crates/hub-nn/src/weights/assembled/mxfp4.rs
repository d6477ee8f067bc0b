//! MXFP4 as gpt-oss has it: `NAME_blocks`, `[.., blocks, 16]`, two numbers a byte, and `NAME_scales`, `[.., blocks]`.
//!
//! Source: OCP Microscaling Formats, version 1.0, and `transformers`' `integrations/mxfp4.py`.

use std::ops::Range;

use indexmap::IndexMap;

use super::{Assembly, assembled};
use crate::weights::{Error, TensorInfo, WeightKind, Weights};

/// Numbers of a block, and the bytes they take.
const BLOCK: usize = 32;
const BLOCK_BYTES: usize = BLOCK / 2;

#[derive(Debug)]
struct MxFp4 {
    blocks: TensorInfo,
    scales: TensorInfo,
}

/// Puts one tensor in place of each pair of blocks and scales.
pub(super) fn assemble(file: &str, tensors: &mut IndexMap<String, TensorInfo>) -> Result<(), Error> {
    let stems: Vec<String> =
        tensors.keys().filter_map(|name| Some(name.strip_suffix("_blocks")?.to_owned())).collect();
    for stem in stems {
        let names = [format!("{stem}_blocks"), format!("{stem}_scales")];
        let [Some(blocks), Some(scales)] = names.each_ref().map(|name| tensors.get(name).cloned()) else {
            continue;
        };
        let corrupt = |reason: String| Error::Corrupt { file: file.to_owned(), reason };
        let is_bytes = blocks.kind == WeightKind::U8 && scales.kind == WeightKind::U8;
        let [rest @ .., BLOCK_BYTES] = blocks.shape.as_slice() else {
            let reason = format!(
                "tensor `{}` should end in {BLOCK_BYTES}, and has shape {:?}",
                names[0], blocks.shape
            );
            return Err(corrupt(reason));
        };
        if !is_bytes || rest != scales.shape || rest.len() < 2 {
            let reason = format!(
                "tensors `{}` {:?} and `{}` {:?} should be bytes, one scale for each block",
                names[0], blocks.shape, names[1], scales.shape
            );
            return Err(corrupt(reason));
        }
        let mut shape = scales.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = last.saturating_mul(BLOCK);
        }
        let kind = WeightKind::MXFP4;
        let len =
            kind.bytes_of(&shape).ok_or_else(|| corrupt(format!("tensor `{stem}` has impossible shape")))?;
        let info = TensorInfo { shape, kind, len, ..blocks.clone() };
        names.iter().for_each(|name| drop(tensors.shift_remove(name)));
        tensors.insert(stem, assembled(info, MxFp4 { blocks, scales }));
    }
    Ok(())
}

impl Assembly for MxFp4 {
    fn rows(&self, weights: &Weights, rows: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
        let each = self.scales.shape.last().copied().unwrap_or(0);
        let (start, count) = (rows.start * each, rows.len() * each);
        let (mut blocks, mut scales) = (vec![0; count * BLOCK_BYTES], vec![0; count]);
        weights.read_bytes(&self.blocks, start * BLOCK_BYTES, &mut blocks)?;
        weights.read_bytes(&self.scales, start, &mut scales)?;
        let parts = blocks.chunks_exact(BLOCK_BYTES).zip(&scales);
        for (out, (numbers, scale)) in out.chunks_exact_mut(1 + BLOCK_BYTES).zip(parts) {
            let [first, out @ ..] = out else { continue };
            *first = *scale;
            turn(numbers, out);
        }
        Ok(())
    }
}

/// Folders put numbers that follow each other into one byte, the first into its low half; GGUF's blocks put the first half
/// of the numbers into the low halves.
fn turn(numbers: &[u8], out: &mut [u8]) {
    let number = |at: usize| numbers[at / 2] >> (4 * (at % 2)) & 15;
    for (at, out) in out.iter_mut().enumerate() {
        *out = number(at) | number(at + BLOCK / 2) << 4;
    }
}
