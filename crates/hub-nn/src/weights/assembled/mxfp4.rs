//! MXFP4 as gpt-oss has it: `NAME_blocks`, `[.., blocks, 16]`, two numbers a byte, and `NAME_scales`, `[.., blocks]`.
//!
//! Source: OCP Microscaling Formats, version 1.0, and `transformers`' `integrations/mxfp4.py`.

use std::ops::Range;

use super::{Assembly, Made, Stored, assembled};
use crate::weights::{Error, TensorInfo, WeightKind, Weights};

/// Numbers of a block, and the bytes they take.
const BLOCK: usize = 32;
const BLOCK_BYTES: usize = BLOCK / 2;

#[derive(Debug)]
struct MxFp4 {
    blocks: TensorInfo,
    scales: TensorInfo,
}

/// Makes one tensor of each pair of blocks and scales.
pub(super) fn find(stored: &Stored<'_>) -> Result<Made, Error> {
    let mut found = Made::default();
    for stem in stored.stems("_blocks") {
        let names = [format!("{stem}_blocks"), format!("{stem}_scales")];
        let [Some(blocks), Some(scales)] = names.each_ref().map(|name| stored.get(name)) else { continue };
        let is_bytes = blocks.kind == WeightKind::U8 && scales.kind == WeightKind::U8;
        let [rest @ .., BLOCK_BYTES] = blocks.shape.as_slice() else {
            let reason = format!(
                "tensor `{}` should end in {BLOCK_BYTES}, and has shape {:?}",
                names[0], blocks.shape
            );
            return Err(stored.corrupt(reason));
        };
        if !is_bytes || rest != scales.shape || rest.len() < 2 {
            let reason = format!(
                "tensors `{}` {:?} and `{}` {:?} should be bytes, one scale for each block",
                names[0], blocks.shape, names[1], scales.shape
            );
            return Err(stored.corrupt(reason));
        }
        let mut shape = scales.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = last.saturating_mul(BLOCK);
        }
        let parts = MxFp4 { blocks: blocks.clone(), scales: scales.clone() };
        let info = assembled(shape, WeightKind::MXFP4, parts)
            .ok_or_else(|| stored.corrupt(format!("tensor `{stem}` has impossible shape")))?;
        found.made.push((stem.to_owned(), info));
        found.taken.extend(names);
    }
    Ok(found)
}

impl Assembly for MxFp4 {
    fn format(&self) -> &'static str {
        WeightKind::MXFP4.as_str()
    }

    fn stored_bytes(&self) -> u64 {
        self.blocks.bytes() + self.scales.bytes()
    }

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
