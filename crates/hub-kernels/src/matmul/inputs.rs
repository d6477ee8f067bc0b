//! What products of bytes have in common, whatever the instructions.

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

/// What a block of weights meets: the activations of as many tokens as lie side by side.
pub(super) struct Inputs<'a> {
    /// Four columns of one token after another.
    pub(super) q: &'a [[i8; 4]],
    pub(super) scales: &'a [f32],
    /// Blocks of 32: a sum for each token. Blocks of 256: the sums of two groups in one number.
    pub(super) sums: &'a [i32],
}

impl<'a> Inputs<'a> {
    /// Finds those of block `at` for the `T` tokens of a panel.
    #[inline(always)]
    pub(super) fn of<const K: usize, const T: usize>(x: &'a Activations, panel: usize, at: usize) -> Self {
        let kind = const { kind_of(K) };
        let Bytes { q, scales, sums, pairs, .. } = if kind.is_super() { &x.large } else { &x.small };
        let start = panel * x.cols + at * kind.block();
        let each = |size: usize| start / size * T..(start + kind.block()) / size * T;
        let has_pairs = kind.is_super() && kind.group() == 32;
        Self {
            q: &q.as_chunks().0[each(4)],
            scales: &scales[each(kind.block())],
            sums: if has_pairs { &pairs[each(64)] } else { &sums[each(32)] },
        }
    }
}
