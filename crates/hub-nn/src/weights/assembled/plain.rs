//! Numbers of plain kinds, from bytes and to bytes.

use half::{bf16, f16};

use crate::weights::WeightKind;

/// Whether scales may be of a kind.
pub(super) fn is_scale(kind: WeightKind) -> bool {
    use WeightKind::{BF16, F8E8M0, F16, F32};
    matches!(kind, F32 | F16 | BF16 | F8E8M0)
}

/// Returns the numbers of a kind that scales may be of; of another, none.
pub(super) fn numbers(kind: WeightKind, bytes: &[u8]) -> Vec<f32> {
    let twos = bytes.as_chunks().0.iter();
    match kind {
        WeightKind::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        WeightKind::F16 => twos.map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
        WeightKind::BF16 => twos.map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect(),
        WeightKind::F8E8M0 => bytes.iter().map(|byte| power_of_two(*byte)).collect(),
        _ => Vec::new(),
    }
}

/// Writes numbers as a plain kind, rounding to the nearest.
pub(super) fn write(kind: WeightKind, numbers: impl Iterator<Item = f32>, out: &mut [u8]) {
    match kind {
        WeightKind::F32 => {
            out.as_chunks_mut()
                .0
                .iter_mut()
                .zip(numbers)
                .for_each(|(out, number)| *out = number.to_le_bytes());
        }
        WeightKind::F16 => put(numbers.map(|number| f16::from_f32(number).to_le_bytes()), out),
        _ => put(numbers.map(|number| bf16::from_f32(number).to_le_bytes()), out),
    }
}

fn put(numbers: impl Iterator<Item = [u8; 2]>, out: &mut [u8]) {
    out.as_chunks_mut().0.iter_mut().zip(numbers).for_each(|(out, number)| *out = number);
}

/// E8M0 of the OCP Microscaling Formats, version 1.0: an exponent without a sign, the last of which is no number.
fn power_of_two(byte: u8) -> f32 {
    match byte {
        255 => f32::NAN,
        0 => f32::from_bits(1 << 22),
        exponent => f32::from_bits(u32::from(exponent) << 23),
    }
}
