//! Q4_K and Q5_K: 256 numbers in groups of 32, each number `d * scale * q - m * min`.
//!
//! A group's own scale and minimum are searched for first: from several scales numbers are rounded, and then again to the
//! line that fits best what they became. Scales and minima are then rounded themselves, to six bits of what the block
//! shares; of each group's neighbouring pairs the best is taken, and what the block shares fitted to those, until that
//! gains nothing.

use super::{
    as_half, half_bytes,
    search::{Group, Products, bytes},
};
use crate::simd::Simd;

const GROUPS: usize = 8;
/// How many scales are tried on either side of the one that spans a group, and how far apart: in parts of a step of `q`.
const STEPS: i32 = 10;
const STEP: f32 = 0.1;
/// The most that a scale or a minimum of a group can be: six bits.
const MOST: f32 = 63.0;
/// How often what a block shares is fitted again.
const ROUNDS: usize = 2;

type Numbers<S> = [<S as Simd>::F; 2];

/// Numbers as `scale * q - min`.
#[derive(Clone, Copy)]
struct Line {
    scale: f32,
    min: f32,
}

/// A block in whole numbers, and what they are multiplied with.
#[derive(Clone, Copy)]
struct Block<S: Simd> {
    d: f32,
    m: f32,
    scales: [f32; GROUPS],
    mins: [f32; GROUPS],
    q: [Numbers<S>; GROUPS],
    error: f32,
}

/// Rounds a block to Q4_K.
#[inline(always)]
pub(super) fn round_four<S: Simd>(simd: S, numbers: &[f32; 256], out: &mut [u8; 144]) {
    let block = round(simd, numbers, 15.0);
    head(&block, &mut out[..16]);
    low_bits(&q_of(simd, &block), &mut out[16..]);
}

/// Rounds a block to Q5_K.
#[inline(always)]
pub(super) fn round_five<S: Simd>(simd: S, numbers: &[f32; 256], out: &mut [u8; 176]) {
    let block = round(simd, numbers, 31.0);
    head(&block, &mut out[..16]);
    let q = q_of(simd, &block);
    for (lane, out) in out[16..48].iter_mut().enumerate() {
        *out = (0..GROUPS).fold(0, |bits, group| bits | (q[group * 32 + lane] >> 4 & 1) << group);
    }
    low_bits(&q, &mut out[48..]);
}

#[inline(always)]
fn q_of<S: Simd>(simd: S, block: &Block<S>) -> [u8; 256] {
    let mut out = [0; 256];
    for (q, out) in block.q.iter().zip(out.as_chunks_mut::<32>().0) {
        bytes(simd, q, out);
    }
    out
}

/// Writes what the block shares, and the scales and minima of its groups.
fn head<S: Simd>(block: &Block<S>, out: &mut [u8]) {
    out[..2].copy_from_slice(&half_bytes(block.d));
    out[2..4].copy_from_slice(&half_bytes(block.m));
    let (scales, mins) = (block.scales.map(|scale| scale as u8), block.mins.map(|min| min as u8));
    for at in 0..4 {
        out[4 + at] = scales[at] | (scales[at + 4] >> 4) << 6;
        out[8 + at] = mins[at] | (mins[at + 4] >> 4) << 6;
        out[12 + at] = scales[at + 4] & 15 | mins[at + 4] << 4;
    }
}

/// Writes the low four bits of 256 numbers: of 64 numbers, the first half low and the second high.
fn low_bits(q: &[u8; 256], out: &mut [u8]) {
    for (q, out) in q.as_chunks::<64>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        let (low, high) = q.split_at(32);
        for (out, (low, high)) in out.iter_mut().zip(low.iter().zip(high)) {
            *out = low & 15 | high << 4;
        }
    }
}

#[inline(always)]
fn round<S: Simd>(simd: S, numbers: &[f32; 256], most: f32) -> Block<S> {
    let mut groups = [Group::<S, 2>::new(simd, &numbers[..32]); GROUPS];
    let mut lines = [Line { scale: 0.0, min: 0.0 }; GROUPS];
    for (at, numbers) in numbers.as_chunks::<32>().0.iter().enumerate() {
        groups[at] = Group::new(simd, numbers);
        lines[at] = search(simd, &groups[at], numbers, most);
    }
    let (mut scale, mut min) = (0.0_f32, 0.0_f32);
    for line in &lines {
        (scale, min) = (scale.max(line.scale), min.max(line.min));
    }
    let mut best = rounded(simd, &groups, &lines, (scale / MOST, min / MOST), most);
    for _ in 0..ROUNDS {
        let shared = refitted(simd, &groups, &best);
        let next = rounded(simd, &groups, &lines, shared, most);
        if next.error >= best.error {
            break;
        }
        best = next;
    }
    best
}

/// Searches for the scale and the minimum that fit one group best.
#[inline(always)]
fn search<S: Simd>(simd: S, group: &Group<S, 2>, numbers: &[f32; 32], most: f32) -> Line {
    // A minimum is taken off, so it cannot raise numbers that are all positive.
    let least = numbers.iter().fold(0.0_f32, |least, number| least.min(*number));
    let range = numbers.iter().fold(least, |largest, number| largest.max(*number)) - least;
    let mut best = Line { scale: 0.0, min: -least };
    let mut smallest = f32::INFINITY;
    if range <= 0.0 {
        return best;
    }
    for step in -STEPS..=STEPS {
        let inverse = (most + step as f32 * STEP) / range;
        // The minimum that was best so far leads to others, which matters beside a number far from all others.
        for min in [-least, best.min] {
            let line = fit(simd, group, &group.quantized(simd, inverse, min, (0.0, most)));
            let inverse = if line.scale > 0.0 { 1.0 / line.scale } else { 0.0 };
            let q = group.quantized(simd, inverse, line.min, (0.0, most));
            let error = group.error(simd, &q, line.scale, line.min);
            if error < smallest {
                (best, smallest) = (line, error);
            }
        }
    }
    best
}

/// Returns the scale and the minimum, neither of them negative, that fit numbers rounded to `q` best: least squares.
#[inline(always)]
fn fit<S: Simd>(simd: S, group: &Group<S, 2>, q: &Numbers<S>) -> Line {
    let Products { q, qq, qx } = group.products(simd, q);
    let (weights, weighted) = (group.weights, group.weighted);
    let determinant = weights * qq - q * q;
    let line = Line {
        scale: (weights * qx - weighted * q) / determinant,
        min: (q * qx - qq * weighted) / determinant,
    };
    // Numbers that are all rounded to one leave the line open; one through zero is not.
    if line.scale >= 0.0 && line.min >= 0.0 {
        line
    } else if qq > 0.0 {
        Line { scale: (qx / qq).max(0.0), min: 0.0 }
    } else {
        Line { scale: 0.0, min: (-weighted / weights).max(0.0) }
    }
}

/// Rounds everything, given what the block shares: of the whole scales and minima next to what each group wants, the
/// best.
#[inline(always)]
fn rounded<S: Simd>(
    simd: S,
    groups: &[Group<S, 2>; GROUPS],
    lines: &[Line; GROUPS],
    (d, m): (f32, f32),
    most: f32,
) -> Block<S> {
    let (d, m) = (as_half(d.max(0.0)), as_half(m.max(0.0)));
    let zero = [simd.splat(0.0); 2];
    let mut block = Block { d, m, scales: [0.0; GROUPS], mins: [0.0; GROUPS], q: [zero; GROUPS], error: 0.0 };
    for (at, (group, line)) in groups.iter().zip(lines).enumerate() {
        let (scale, min) = (part(line.scale, d), part(line.min, m));
        let mut least = f32::INFINITY;
        for (up, down) in NEIGHBOURS {
            let (scale, min) = ((scale + up).clamp(0.0, MOST), (min + down).clamp(0.0, MOST));
            let (step, off) = (d * scale, m * min);
            let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
            let q = group.quantized(simd, inverse, off, (0.0, most));
            let error = group.error(simd, &q, step, off);
            if error < least {
                least = error;
                (block.scales[at], block.mins[at], block.q[at]) = (scale, min, q);
            }
        }
        block.error += least;
    }
    block
}

/// Returns which whole multiple of what a block shares is next to what a group wants.
#[inline(always)]
fn part(of: f32, shared: f32) -> f32 {
    if shared > 0.0 { (of / shared + 0.5).floor().min(MOST) } else { 0.0 }
}

const NEIGHBOURS: [(f32, f32); 9] = [
    (0.0, 0.0),
    (-1.0, 0.0),
    (1.0, 0.0),
    (0.0, -1.0),
    (0.0, 1.0),
    (-1.0, -1.0),
    (1.0, 1.0),
    (-1.0, 1.0),
    (1.0, -1.0),
];

/// Returns what a block could share better, with everything else as it is: least squares over all of its numbers.
#[inline(always)]
fn refitted<S: Simd>(simd: S, groups: &[Group<S, 2>; GROUPS], block: &Block<S>) -> (f32, f32) {
    let (mut aa, mut ab, mut bb, mut ax, mut bx) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (at, group) in groups.iter().enumerate() {
        let (scale, min) = (block.scales[at], block.mins[at]);
        let Products { q, qq, qx } = group.products(simd, &block.q[at]);
        aa += scale * scale * qq;
        ab += scale * min * q;
        bb += min * min * group.weights;
        ax += scale * qx;
        bx += min * group.weighted;
    }
    let determinant = aa * bb - ab * ab;
    if determinant > 0.0 {
        ((bb * ax - ab * bx) / determinant, (ab * ax - aa * bx) / determinant)
    } else if aa > 0.0 {
        (ax / aa, block.m)
    } else {
        (block.d, block.m)
    }
}
