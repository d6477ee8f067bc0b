//! What products of bytes have in common, whatever the instructions.

use std::ops::Range;

use crate::{Activations, Kind, activations::Bytes};

/// Columns that are taken apart at once.
pub(super) const CHUNK: usize = 256;

/// How far ahead of a single token's product weights are asked for, in bytes. Measured on Zen 3: of 1 to 64 KB these
/// read fastest, by 1.3 (Q8_0) to 1.7 times (Q6_K) what is read without asking.
pub(super) const fn ahead(kind: Kind) -> usize {
    if matches!(kind, Kind::Q8_0) { 1_536 } else { 2_560 }
}

/// A kind, from a number that types can carry.
pub(super) const fn kind_of(index: usize) -> Kind {
    Kind::ALL[index]
}

/// What weights meet: the activations of as many tokens as lie side by side.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    /// Four columns of one token after another.
    pub(super) q: &'a [[i8; 4]],
    pub(super) scales: &'a [f32],
    /// Blocks of 32: a sum for each token. Blocks of 256: the sums of two groups in one number.
    pub(super) sums: &'a [i32],
}

impl<'a> Inputs<'a> {
    /// Finds those of a panel of `T` tokens.
    #[inline(always)]
    pub(super) fn of<const K: usize, const T: usize>(x: &'a Activations, panel: usize) -> Self {
        let kind = const { kind_of(K) };
        let Bytes { q, scales, sums, pairs, .. } = if kind.is_super() { &x.large } else { &x.small };
        let cols = panel * x.cols..(panel + 1) * x.cols;
        Self {
            q: part::<4, T, _>(q.as_chunks().0, &cols),
            scales: if kind.is_super() {
                part::<256, T, _>(scales, &cols)
            } else {
                part::<32, T, _>(scales, &cols)
            },
            sums: if has_pairs(kind) {
                part::<64, T, _>(pairs, &cols)
            } else {
                part::<32, T, _>(sums, &cols)
            },
        }
    }

    /// Returns those of a block. Their lengths are known to the compiler, which then checks no index.
    #[inline(always)]
    pub(super) fn block<const K: usize, const T: usize>(&self, at: usize) -> Self {
        let sums = const { kind_of(K).block() / if has_pairs(kind_of(K)) { 64 } else { 32 } * T };
        let q = const { kind_of(K).block() / 4 * T };
        Self {
            q: &self.q[at * q..][..q],
            scales: &self.scales[at * T..][..T],
            sums: &self.sums[at * sums..][..sums],
        }
    }
}

/// Whether two groups' sums are multiplied at once.
const fn has_pairs(kind: Kind) -> bool {
    kind.is_super() && kind.group() == 32
}

/// Returns what belongs to some columns of `T` tokens: one value for `EACH` of them.
#[inline(always)]
fn part<'a, const EACH: usize, const T: usize, V>(all: &'a [V], cols: &Range<usize>) -> &'a [V] {
    &all[cols.start / EACH * T..cols.end / EACH * T]
}
