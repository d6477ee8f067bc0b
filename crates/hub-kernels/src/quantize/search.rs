//! What both searches for scales use: a group of numbers, and sums over it.
//!
//! Loops where closures would be shorter: those would be compiled without the instructions of the set.

use crate::simd::{LANES, Simd};

/// A group of numbers, sixteen to a vector.
#[derive(Clone, Copy)]
pub(super) struct Group<S: Simd, const N: usize> {
    x: [S::F; N],
    /// What a squared error of each counts.
    weight: [S::F; N],
    /// The sum of all weights.
    pub(super) weights: f32,
    /// The sum of all numbers by their weights.
    pub(super) weighted: f32,
}

/// Sums over a group and what its numbers are rounded to, all by the weights.
#[derive(Clone, Copy)]
pub(super) struct Products {
    pub(super) q: f32,
    pub(super) qq: f32,
    pub(super) qx: f32,
}

impl<S: Simd, const N: usize> Group<S, N> {
    /// Takes a group of `16 * N` numbers.
    ///
    /// An error of a large number counts more, as it does where rounding was tuned on trained models: each counts by its
    /// size and the root of the mean square of its group.
    #[inline(always)]
    pub(super) fn new(simd: S, numbers: &[f32]) -> Self {
        let zero = simd.splat(0.0);
        let mut x = [zero; N];
        let mut squares = zero;
        for (x, numbers) in x.iter_mut().zip(numbers.as_chunks::<LANES>().0) {
            *x = simd.load(numbers);
            squares = simd.add(squares, simd.mul(*x, *x));
        }
        let root = simd.splat((simd.sum(squares) / (N * LANES) as f32).sqrt());
        let (mut weight, mut weights, mut weighted) = ([zero; N], zero, zero);
        for (weight, x) in weight.iter_mut().zip(x) {
            *weight = simd.add(root, simd.abs(x));
            weights = simd.add(weights, *weight);
            weighted = simd.add(weighted, simd.mul(*weight, x));
        }
        Self { x, weight, weights: simd.sum(weights), weighted: simd.sum(weighted) }
    }

    /// Rounds numbers to whole multiples: `(x + min) * inverse`, cut to a range.
    #[inline(always)]
    pub(super) fn quantized(&self, simd: S, inverse: f32, min: f32, range: (f32, f32)) -> [S::F; N] {
        let (inverse, min) = (simd.splat(inverse), simd.splat(min));
        let (least, most) = (simd.splat(range.0), simd.splat(range.1));
        let mut q = self.x;
        for q in &mut q {
            let exact = simd.mul(simd.add(*q, min), inverse);
            *q = simd.round(simd.max(least, simd.min(most, exact)));
        }
        q
    }

    /// Sums up the products that a line through what the numbers were rounded to is fitted with.
    #[inline(always)]
    pub(super) fn products(&self, simd: S, q: &[S::F; N]) -> Products {
        let zero = simd.splat(0.0);
        let (mut sum, mut squares, mut products) = (zero, zero, zero);
        for ((x, weight), q) in self.x.iter().zip(&self.weight).zip(q) {
            let weighted = simd.mul(*weight, *q);
            sum = simd.add(sum, weighted);
            squares = simd.add(squares, simd.mul(weighted, *q));
            products = simd.add(products, simd.mul(weighted, *x));
        }
        Products { q: simd.sum(sum), qq: simd.sum(squares), qx: simd.sum(products) }
    }

    /// Returns the squared error of `scale * q - min`.
    #[inline(always)]
    pub(super) fn error(&self, simd: S, q: &[S::F; N], scale: f32, min: f32) -> f32 {
        let (scale, min) = (simd.splat(scale), simd.splat(min));
        let mut sum = simd.splat(0.0);
        for ((x, weight), q) in self.x.iter().zip(&self.weight).zip(q) {
            let off = simd.sub(simd.sub(simd.mul(scale, *q), min), *x);
            sum = simd.add(sum, simd.mul(simd.mul(off, off), *weight));
        }
        simd.sum(sum)
    }
}

/// Writes whole numbers from 0 to 127 as bytes.
#[inline(always)]
pub(super) fn bytes<S: Simd, const N: usize>(simd: S, q: &[S::F; N], out: &mut [u8]) {
    for (q, out) in q.iter().zip(out.as_chunks_mut::<LANES>().0) {
        let mut signed = [0; LANES];
        simd.store_bytes(*q, &mut signed);
        *out = signed.map(i8::cast_unsigned);
    }
}
