//! Products of plain numbers, written once for every set of instructions.

use std::ops::Range;

use super::Sums;
use crate::{
    Activations, Kind, Packed, TILE,
    activations::PANEL,
    dense::{self, multiply},
    simd::{Op, Simd},
};

/// Columns that are widened at once.
const CHUNK: usize = 128;
/// How many tiles are summed up side by side for a single token, so that one sum does not wait for the other.
const ABREAST: usize = 4;

/// Products of plain numbers, added to `sums`.
pub(super) struct Plain<'a> {
    pub(super) weights: &'a Packed,
    pub(super) x: &'a Activations,
    pub(super) work: Work,
    pub(super) sums: &'a mut Sums,
}

/// What is multiplied at once.
pub(super) enum Work {
    /// Several tiles for one token.
    One { tiles: Range<usize>, token: usize },
    /// Some columns of one tile for the tokens from `first` on.
    Many { tile: usize, first: usize, columns: Range<usize> },
}

impl Op for Plain<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.weights.kind() {
            Kind::F16 => self.of::<S, 2>(simd, half, half_ahead),
            Kind::BF16 => self.of::<S, 2>(simd, bf16, bf16_ahead),
            _ => self.of::<S, 4>(simd, full, full_ahead),
        }
    }
}

impl Plain<'_> {
    #[inline(always)]
    fn of<S: Simd, const SIZE: usize>(
        self,
        simd: S,
        load: impl Fn(S, &[[u8; SIZE]; TILE]) -> S::F + Copy,
        load_ahead: impl Fn(S, &[[u8; SIZE]; TILE]) -> S::F + Copy,
    ) {
        let Self { weights, x, work, sums } = self;
        match work {
            Work::One { tiles, token } => {
                one(simd, load, weights, tiles, &x.numbers[token * x.cols..][..x.cols], sums)
            }
            Work::Many { tile, first, columns } => {
                let numbers = weights.tile(tile).as_chunks::<SIZE>().0.as_chunks::<TILE>().0;
                many(simd, load_ahead, &numbers[columns.clone()], (first, columns.start), x, sums);
            }
        }
    }
}

#[inline(always)]
fn one<S: Simd, const SIZE: usize>(
    simd: S,
    load: impl Fn(S, &[[u8; SIZE]; TILE]) -> S::F + Copy,
    weights: &Packed,
    tiles: Range<usize>,
    x: &[f32],
    sums: &mut Sums,
) {
    let columns = |tile: usize| weights.tile(tile).as_chunks::<SIZE>().0.as_chunks::<TILE>().0;
    let mut groups = sums.chunks_mut(ABREAST);
    let mut tile = tiles.start;
    while tile + ABREAST <= tiles.end {
        let columns: [_; ABREAST] = std::array::from_fn(|at| &columns(tile + at)[..x.len()]);
        let mut all = [simd.splat(0.0); ABREAST];
        for (at, x) in x.iter().enumerate() {
            let x = simd.splat(*x);
            for index in 0..ABREAST {
                all[index] = simd.fma(load(simd, &columns[index][at]), x, all[index]);
            }
        }
        let group = groups.next().unwrap_or_default();
        group.iter_mut().zip(all).for_each(|(out, sum)| simd.store(sum, out));
        tile += ABREAST;
    }
    let rest = groups.next().unwrap_or_default();
    for (tile, out) in (tile..tiles.end).zip(rest) {
        let mut sum = simd.splat(0.0);
        for (column, x) in columns(tile).iter().zip(x) {
            sum = simd.fma(load(simd, column), simd.splat(*x), sum);
        }
        simd.store(sum, out);
    }
}

#[inline(always)]
fn many<S: Simd, const SIZE: usize>(
    simd: S,
    load: impl Fn(S, &[[u8; SIZE]; TILE]) -> S::F + Copy,
    columns: &[[[u8; SIZE]; TILE]],
    (first, start): (usize, usize),
    x: &Activations,
    sums: &mut Sums,
) {
    if sums.len() <= 3 * PANEL {
        let x = inputs(x, first, start..start + columns.len());
        return multiply_by::<S, _>(simd, columns, load, x, sums);
    }
    let mut wide = [[0.0; TILE]; CHUNK];
    for (at, columns) in columns.chunks(CHUNK).enumerate() {
        for (column, wide) in columns.iter().zip(&mut wide) {
            simd.store(load(simd, column), wide);
        }
        let start = start + at * CHUNK;
        for (three, sums) in sums.chunks_mut(3 * PANEL).enumerate() {
            let x = inputs(x, first + three * 3 * PANEL, start..start + columns.len());
            multiply_by::<S, _>(simd, &wide[..columns.len()], dense::wide, x, sums);
        }
    }
}

/// Finds some columns of three panels of tokens, the last of which may not be there.
#[inline(always)]
fn inputs(x: &Activations, first: usize, columns: Range<usize>) -> [&[[f32; PANEL]]; 3] {
    let all = x.numbers.as_chunks::<PANEL>().0;
    [0, 1, 2].map(|panel| {
        let start = (first / PANEL + panel) * x.cols;
        all.get(start + columns.start..start + columns.end).unwrap_or_default()
    })
}

/// Adds the products with one to three panels of tokens: with as many sums at once as there are registers for, since a
/// sum has to wait for the one before it.
#[inline(always)]
fn multiply_by<S: Simd, V>(
    simd: S,
    columns: &[V],
    load: impl Fn(S, &V) -> S::F + Copy,
    x: [&[[f32; PANEL]]; 3],
    sums: &mut Sums,
) {
    if let Some(sums) = sums.as_mut_array() {
        if S::IS_WIDE {
            return multiply::<S, V, 12, 0, PANEL, 3>(simd, columns, load, x, sums);
        }
        if let [first, second] = sums.as_chunks_mut().0 {
            multiply::<S, V, 6, 0, PANEL, 3>(simd, columns, load, x, first);
            multiply::<S, V, 6, 6, PANEL, 3>(simd, columns, load, x, second);
        }
        return;
    }
    if S::IS_WIDE
        && let Some(sums) = sums.as_mut_array()
    {
        return multiply::<S, V, 8, 0, PANEL, 2>(simd, columns, load, [x[0], x[1]], sums);
    }
    for (sums, x) in sums.as_chunks_mut::<PANEL>().0.iter_mut().zip(x) {
        multiply::<S, V, PANEL, 0, PANEL, 1>(simd, columns, load, [x], sums);
    }
}

/// How far ahead of products with few tokens weights are asked for, in bytes.
const AHEAD: usize = 4_096;

/// Defines what loads numbers of a kind, and the same that asks for what comes later as well.
macro_rules! loads {
    ($name:ident, $ahead:ident, $size:literal, |$simd:ident, $column:ident| $load:expr) => {
        #[inline(always)]
        fn $name<S: Simd>($simd: S, $column: &[[u8; $size]; TILE]) -> S::F {
            $load
        }

        #[inline(always)]
        fn $ahead<S: Simd>(simd: S, column: &[[u8; $size]; TILE]) -> S::F {
            simd.prefetch(column.as_ptr().cast::<u8>().wrapping_add(AHEAD));
            $name(simd, column)
        }
    };
}

loads!(half, half_ahead, 2, |simd, column| simd.load_half(&column.map(u16::from_le_bytes)));
loads!(bf16, bf16_ahead, 2, |simd, column| simd.load_bf16(&column.map(u16::from_le_bytes)));
loads!(full, full_ahead, 4, |simd, column| simd.load(&column.map(f32::from_le_bytes)));
