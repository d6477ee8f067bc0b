//! Products of packed weights and activations.
//!
//! The tiles of all products of a call are cut into parts, of which the threads take one after another. A part goes
//! through blocks of tokens that stay in the second-level cache, and for each of them through its tiles; a tile is
//! taken apart once for all tokens of the block.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
mod dots;
mod inputs;
mod plain;
mod scalar;
mod transposed;

use std::ops::Range;

use self::plain::{Plain, Work};
use crate::{Activations, Cpu, Isa, Packed, TILE, disjoint::Disjoint};

/// How many tokens share one taking apart of a tile.
const BLOCK_TOKENS: usize = 128;
/// How many tiles a part has at most.
const MOST_TILES: usize = 16;
/// How many parts there are for each thread, if tiles are enough.
const PARTS: usize = 8;

/// A product `out = x W^T + bias`: `[tokens, rows]` from activations of `[tokens, cols]`.
#[derive(Debug)]
pub struct Product<'a> {
    /// `[rows, cols]`
    pub weights: &'a Packed,
    /// `[tokens, cols]`
    pub x: &'a Activations,
    /// `[rows]`
    pub bias: Option<&'a [f32]>,
    /// `[tokens, rows]`
    pub out: &'a mut [f32],
}

/// The sums of a tile for some tokens.
type Sums = [[f32; TILE]];

/// A product while it is computed.
struct Job<'a> {
    weights: &'a Packed,
    x: &'a Activations,
    bias: Option<&'a [f32]>,
    out: Disjoint<'a, f32>,
    /// Where its parts begin and end among all parts, and how many tiles each has.
    parts: Range<usize>,
    tiles: usize,
}

impl Packed {
    /// Computes `out = x W^T`: `[tokens, rows]` from activations of `[tokens, cols]`.
    ///
    /// # Panics
    /// As [`multiply`].
    pub fn matmul(&self, x: &Activations, out: &mut [f32], cpu: &Cpu) {
        multiply([Product { weights: self, x, bias: None, out }], cpu);
    }
}

/// Computes several products at once, so that threads meet once for all of them.
///
/// # Panics
/// If shapes do not fit, or activations lack the form that the weights ask for.
pub fn multiply<const N: usize>(products: [Product<'_>; N], cpu: &Cpu) {
    let mut parts = 0;
    let all = products.iter().map(|product| product.weights.tiles()).sum::<usize>();
    let tiles = (all / (cpu.threads() * PARTS)).clamp(1, MOST_TILES);
    let jobs = products.map(|product| {
        let Product { weights, x, bias, out } = product;
        let fits = x.fits(weights.kind(), weights.cols()) && out.len() == x.tokens * weights.rows();
        assert!(fits, "{} by {} for {:?}", x.tokens, x.cols, weights.kind());
        assert!(bias.is_none_or(|bias| bias.len() == weights.rows()), "one bias for each row");
        let first = parts;
        parts += weights.tiles().div_ceil(tiles);
        Job { weights, x, bias, out: Disjoint::new(out), parts: first..parts, tiles }
    });
    cpu.run(parts, |_, part| {
        if let Some(job) = jobs.iter().find(|job| job.parts.contains(&part)) {
            job.part(part - job.parts.start, cpu.isa());
        }
    });
}

impl Job<'_> {
    fn part(&self, part: usize, isa: Isa) {
        let tiles = part * self.tiles..((part + 1) * self.tiles).min(self.weights.tiles());
        if self.x.lanes == 1 {
            return self.single(tiles, isa);
        }
        if self.weights.kind().is_plain() {
            return self.plain(tiles, isa);
        }
        for first in (0..self.x.tokens).step_by(BLOCK_TOKENS) {
            let tokens = BLOCK_TOKENS.min(self.x.tokens - first);
            for tile in tiles.clone() {
                let mut sums = [[0.0; TILE]; BLOCK_TOKENS];
                self.add(isa, tile, first, &mut sums[..tokens.next_multiple_of(self.x.lanes)]);
                self.write(tile, first, &sums[..tokens]);
            }
        }
    }

    /// A part for a single token.
    fn single(&self, tiles: Range<usize>, isa: Isa) {
        let mut sums = [[0.0; TILE]; MOST_TILES];
        if self.weights.kind().is_plain() {
            let work = Work::One { tiles: tiles.clone() };
            isa.run(Plain { weights: self.weights, x: self.x, work, sums: &mut sums });
        } else {
            for (tile, sums) in tiles.clone().zip(&mut sums) {
                self.add(isa, tile, 0, std::slice::from_mut(sums));
            }
        }
        for (tile, sums) in tiles.zip(&sums) {
            self.write(tile, 0, std::slice::from_ref(sums));
        }
    }

    /// A part of plain numbers for several tokens: so many of them and of their columns at a time as stay in the
    /// second-level cache while all tiles of the part go by.
    fn plain(&self, tiles: Range<usize>, isa: Isa) {
        const TOKENS: usize = 96;
        const NUMBERS: usize = TOKENS * 512;
        let Self { weights, x, .. } = *self;
        let mut all = [[[0.0; TILE]; TOKENS]; MOST_TILES];
        for first in (0..x.tokens).step_by(TOKENS) {
            let tokens = TOKENS.min(x.tokens - first);
            let padded = tokens.next_multiple_of(x.lanes);
            let columns = (NUMBERS / padded).next_multiple_of(512);
            all.iter_mut().for_each(|sums| sums[..padded].fill([0.0; TILE]));
            for start in (0..x.cols).step_by(columns) {
                let columns = start..(start + columns).min(x.cols);
                for (tile, sums) in tiles.clone().zip(&mut all) {
                    let work = Work::Many { tile, first, columns: columns.clone() };
                    isa.run(Plain { weights, x, work, sums: &mut sums[..padded] });
                }
            }
            for (tile, sums) in tiles.clone().zip(&all) {
                self.write(tile, first, &sums[..tokens]);
            }
        }
    }

    /// Adds what a tile of bytes gives for the tokens from `first` on.
    fn add(&self, isa: Isa, tile: usize, first: usize, sums: &mut Sums) {
        let Self { weights, x, .. } = *self;
        match isa {
            Isa::Scalar => scalar::add(weights, tile, x, first, sums),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::add(weights, tile, x, first, sums),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx if x.tiled => amx::add(isa, weights, tile, x, first, sums),
            _ => dots::add(isa, weights, tile, x, first, sums),
        }
    }

    fn write(&self, tile: usize, first: usize, sums: &Sums) {
        let (rows, start) = (self.weights.rows(), tile * TILE);
        let count = TILE.min(rows - start);
        let bias = self.bias.map(|bias| &bias[start..start + count]);
        for (token, sums) in sums.iter().enumerate() {
            let at = (first + token) * rows + start;
            #[expect(unsafe_code, reason = "threads write columns of one matrix")]
            // SAFETY: a tile belongs to one part, and tiles write different columns.
            let out = unsafe { self.out.part(at..at + count) };
            match out.as_mut_array() {
                // A whole tile's row is one line of the cache, which needs no call to be copied.
                Some(out) => *out = *sums,
                None => out.copy_from_slice(&sums[..count]),
            }
            if let Some(bias) = bias {
                out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
            }
        }
    }
}
