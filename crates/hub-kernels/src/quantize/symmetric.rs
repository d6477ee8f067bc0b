//! Q6_K: 256 numbers in groups of 16, each number `d * scale * q` with `q` from -32 to 31 and scales of eight bits.
//!
//! As in `affine`: each group's own scale is searched for, rounded to a part of what the block shares, and the best of
//! its neighbours taken.

use super::{
    as_half, half_bytes,
    search::{Group, bytes},
};
use crate::simd::Simd;

const GROUPS: usize = 16;
/// What is added to numbers in the file.
const ZERO: f32 = 32.0;
const RANGE: (f32, f32) = (-32.0, 31.0);
/// How many scales are tried on either side of the one that spans the group, and how far apart: in parts of a step of `q`.
const STEPS: i32 = 9;
const STEP: f32 = 0.1;
/// Which parts of the scale furthest from zero are tried after the smallest; 0 stands for what fits the best so far.
const PARTS: [f32; 3] = [-127.0, -126.0, 0.0];

type Numbers<S> = [<S as Simd>::F; 1];

#[derive(Clone, Copy)]
struct Block<S: Simd> {
    d: f32,
    scales: [f32; GROUPS],
    q: [Numbers<S>; GROUPS],
    error: f32,
}

/// Rounds a block to Q6_K.
#[inline(always)]
pub(super) fn round<S: Simd>(simd: S, numbers: &[f32; 256], out: &mut [u8; 210]) {
    let mut groups = [Group::<S, 1>::new(simd, &numbers[..16]); GROUPS];
    let mut wanted = [0.0; GROUPS];
    for (at, numbers) in numbers.as_chunks::<16>().0.iter().enumerate() {
        groups[at] = Group::new(simd, numbers);
        wanted[at] = search(simd, &groups[at], numbers);
    }
    let furthest =
        wanted.iter().fold(0.0_f32, |far, scale| if scale.abs() > far.abs() { *scale } else { far });
    // The scale furthest from zero becomes -128, which has no positive counterpart.
    let mut best = rounded(simd, &groups, &wanted, furthest / -128.0);
    for part in PARTS {
        // Another part of it may be nearer to an `f16`, or to what the other groups want.
        let shared = if part == 0.0 { refitted(simd, &groups, &best) } else { furthest / part };
        let next = rounded(simd, &groups, &wanted, shared);
        if next.error < best.error {
            best = next;
        }
    }
    write(simd, &best, out);
}

/// Searches for the scale that fits one group best.
#[inline(always)]
fn search<S: Simd>(simd: S, group: &Group<S, 1>, numbers: &[f32; 16]) -> f32 {
    let furthest =
        numbers.iter().fold(0.0_f32, |far, number| if number.abs() > far.abs() { *number } else { far });
    let (mut best, mut least) = (0.0, f32::INFINITY);
    if furthest == 0.0 {
        return best;
    }
    for step in -STEPS..=STEPS {
        // The number furthest from zero becomes about -32, which has no positive counterpart.
        let q = group.quantized(simd, -(ZERO + step as f32 * STEP) / furthest, 0.0, RANGE);
        let products = group.products(simd, &q);
        let scale = products.qx / products.qq;
        let error = group.error(simd, &q, scale, 0.0);
        if error < least {
            (best, least) = (scale, error);
        }
    }
    best
}

/// Rounds everything, given what the block shares.
#[inline(always)]
fn rounded<S: Simd>(simd: S, groups: &[Group<S, 1>; GROUPS], wanted: &[f32; GROUPS], d: f32) -> Block<S> {
    let d = as_half(d);
    let mut block = Block { d, scales: [0.0; GROUPS], q: [[simd.splat(0.0)]; GROUPS], error: 0.0 };
    for (at, (group, wanted)) in groups.iter().zip(wanted).enumerate() {
        let scale = if d == 0.0 { 0.0 } else { (wanted / d + 0.5).floor() };
        let mut least = f32::INFINITY;
        for up in [0.0, -1.0, 1.0] {
            let scale = (scale + up).clamp(-128.0, 127.0);
            let step = d * scale;
            let q = group.quantized(simd, if step == 0.0 { 0.0 } else { 1.0 / step }, 0.0, RANGE);
            let error = group.error(simd, &q, step, 0.0);
            if error < least {
                least = error;
                (block.scales[at], block.q[at]) = (scale, q);
            }
        }
        block.error += least;
    }
    block
}

/// Returns what a block could share better, with everything else as it is.
#[inline(always)]
fn refitted<S: Simd>(simd: S, groups: &[Group<S, 1>; GROUPS], block: &Block<S>) -> f32 {
    let (mut squares, mut products) = (0.0, 0.0);
    for (at, group) in groups.iter().enumerate() {
        let (scale, sums) = (block.scales[at], group.products(simd, &block.q[at]));
        squares += scale * scale * sums.qq;
        products += scale * sums.qx;
    }
    if squares > 0.0 { products / squares } else { block.d }
}

#[inline(always)]
fn write<S: Simd>(simd: S, block: &Block<S>, out: &mut [u8; 210]) {
    let mut q = [0; 256];
    for (numbers, out) in block.q.iter().zip(q.as_chunks_mut::<16>().0) {
        bytes(simd, &[simd.add(numbers[0], simd.splat(ZERO))], out);
    }
    let (low, rest) = out.split_at_mut(128);
    let (high, rest) = rest.split_at_mut(64);
    let halves = low.as_chunks_mut::<64>().0.iter_mut().zip(high.as_chunks_mut::<32>().0);
    for ((low, high), q) in halves.zip(q.as_chunks::<128>().0) {
        for lane in 0..32 {
            let [a, b, c, d] = [q[lane], q[32 + lane], q[64 + lane], q[96 + lane]];
            low[lane] = a & 15 | c << 4;
            low[32 + lane] = b & 15 | d << 4;
            high[lane] = a >> 4 | (b >> 4) << 2 | (c >> 4) << 4 | (d >> 4) << 6;
        }
    }
    for (out, scale) in rest.iter_mut().zip(block.scales) {
        *out = (scale as i8).cast_unsigned();
    }
    rest[16..].copy_from_slice(&half_bytes(block.d));
}
