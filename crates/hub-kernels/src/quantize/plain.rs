//! Kinds of 32 numbers with one scale, and plain numbers.

use super::half_bytes;
use crate::Kind;

/// Rounds whole blocks of `kind`, one of those with four and five bits or plain numbers.
pub(super) fn round(kind: Kind, numbers: &[f32], out: &mut [u8]) {
    let blocks = numbers.as_chunks::<32>().0.iter().zip(out.chunks_exact_mut(kind.block_bytes().max(1)));
    match kind {
        Kind::Q4_0 => blocks.for_each(|(numbers, out)| {
            let (d, q) = centred(numbers, 8);
            out[..2].copy_from_slice(&half_bytes(d));
            nibbles(&q, &mut out[2..]);
        }),
        Kind::Q5_0 => blocks.for_each(|(numbers, out)| {
            let (d, q) = centred(numbers, 16);
            out[..2].copy_from_slice(&half_bytes(d));
            fifth_bits(&q, &mut out[2..6]);
            nibbles(&q, &mut out[6..]);
        }),
        Kind::Q4_1 => blocks.for_each(|(numbers, out)| {
            let (d, min, q) = from_least(numbers, 15);
            out[..2].copy_from_slice(&half_bytes(d));
            out[2..4].copy_from_slice(&half_bytes(min));
            nibbles(&q, &mut out[4..]);
        }),
        Kind::Q5_1 => blocks.for_each(|(numbers, out)| {
            let (d, min, q) = from_least(numbers, 31);
            out[..2].copy_from_slice(&half_bytes(d));
            out[2..4].copy_from_slice(&half_bytes(min));
            fifth_bits(&q, &mut out[4..8]);
            nibbles(&q, &mut out[8..]);
        }),
        Kind::F16 => each(numbers, out, half_bytes),
        Kind::BF16 => each(numbers, out, |number| half::bf16::from_f32(number).to_le_bytes()),
        Kind::F32 => each(numbers, out, f32::to_le_bytes),
        // The others are rounded elsewhere.
        _ => {}
    }
}

/// Rounds 32 numbers so that the one furthest from zero becomes -`zero`, and returns the scale and the numbers plus `zero`.
fn centred(numbers: &[f32; 32], zero: u8) -> (f32, [u8; 32]) {
    // Of two as far, the first one.
    let furthest =
        numbers.iter().fold(0.0_f32, |far, number| if number.abs() > far.abs() { *number } else { far });
    let d = furthest / -f32::from(zero);
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let (half, most) = (f32::from(zero) + 0.5, 2.0 * f32::from(zero) - 1.0);
    let round = |number: f32| (number * inverse + half).min(most) as u8;
    (d, numbers.map(round))
}

/// Rounds 32 numbers so that the least becomes 0 and the largest `most`; returns the scale, the least, and the numbers.
fn from_least(numbers: &[f32; 32], most: u8) -> (f32, f32, [u8; 32]) {
    let least = numbers.iter().copied().fold(f32::INFINITY, f32::min);
    let largest = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let d = (largest - least) / f32::from(most);
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let round = |number: f32| ((number - least) * inverse + 0.5).min(f32::from(most)) as u8;
    (d, least, numbers.map(round))
}

/// Writes the low four bits of 32 numbers: the first half of them low, the second high.
fn nibbles(q: &[u8; 32], out: &mut [u8]) {
    let (low, high) = q.split_at(16);
    for (out, (low, high)) in out.iter_mut().zip(low.iter().zip(high)) {
        *out = low & 15 | high << 4;
    }
}

/// Writes the fifth bits of 32 numbers.
fn fifth_bits(q: &[u8; 32], out: &mut [u8]) {
    let bits = q.iter().enumerate().fold(0_u32, |bits, (at, q)| bits | u32::from(q >> 4 & 1) << at);
    out.copy_from_slice(&bits.to_le_bytes());
}

fn each<const N: usize>(numbers: &[f32], out: &mut [u8], bytes: impl Fn(f32) -> [u8; N]) {
    for (number, out) in numbers.iter().zip(out.as_chunks_mut::<N>().0) {
        *out = bytes(*number);
    }
}
