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
use crate::{Activations, Cpu, Isa, Packed, TILE, activations::PANEL, disjoint::Disjoint};

/// How many tokens share one taking apart of a tile.
const BLOCK_TOKENS: usize = 128;
/// How many tiles a part has at most.
const MOST_TILES: usize = 16;
/// How many parts there are for each thread, if tiles are enough.
const PARTS: usize = 8;

/// A product `out = x W^T + bias`: `[tokens, rows]` from activations of `[tokens, cols]`.
#[derive(Debug)]
pub struct Product<'a> {
    weights: &'a Packed,
    /// Which tiles and rows of the weights, and which tokens of the activations.
    first_tile: usize,
    rows: usize,
    first_token: usize,
    tokens: usize,
    x: &'a Activations,
    /// `[rows]`
    bias: Option<&'a [f32]>,
    /// `[tokens, rows]`
    out: Disjoint<'a, f32>,
    /// Where its parts begin and end among those of a call.
    parts: Range<usize>,
}

impl<'a> Product<'a> {
    /// A product of all rows of `weights` with all tokens of `x`, into `[tokens, rows]`.
    pub fn new(weights: &'a Packed, x: &'a Activations, out: &'a mut [f32]) -> Self {
        let out = Disjoint::new(out);
        let (rows, tokens) = (weights.rows(), x.tokens);
        Self { weights, first_tile: 0, rows, first_token: 0, tokens, x, bias: None, out, parts: 0..0 }
    }

    /// Adds `bias`, a number for each row.
    pub fn bias(mut self, bias: Option<&'a [f32]>) -> Self {
        self.bias = bias;
        self
    }

    /// Takes these rows of the weights alone.
    ///
    /// # Panics
    /// If they are not there, or do not begin with a tile of [`TILE`].
    pub fn rows(mut self, rows: Range<usize>) -> Self {
        let fits =
            rows.start.is_multiple_of(TILE) && rows.start <= rows.end && rows.end <= self.weights.rows();
        assert!(fits, "rows {rows:?} of {}", self.weights.rows());
        (self.first_tile, self.rows) = (rows.start / TILE, rows.len());
        self
    }

    /// Takes these tokens of the activations alone.
    ///
    /// # Panics
    /// If they are not there, or do not begin with a panel of [`PANEL`] where they lie side by side.
    pub fn tokens(mut self, tokens: Range<usize>) -> Self {
        let is_whole = tokens.start.is_multiple_of(self.x.lanes.max(1));
        let fits = is_whole && tokens.start <= tokens.end && tokens.end <= self.x.tokens;
        assert!(fits, "tokens {tokens:?} of {}", self.x.tokens);
        (self.first_token, self.tokens) = (tokens.start, tokens.len());
        self
    }

    fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE)
    }

    fn check(&self) {
        let Self { weights, x, rows, tokens, .. } = self;
        let is_one = x.lanes != 1 || *tokens <= 1;
        let fits = is_one && x.fits(weights.kind(), weights.cols()) && self.out.len() == tokens * rows;
        assert!(fits, "{tokens} by {} for {:?}", x.cols, self.weights.kind());
        assert!(self.bias.is_none_or(|bias| bias.len() == *rows), "one bias for each row");
    }
}

/// The sums of a tile for some tokens.
type Sums = [[f32; TILE]];

impl Packed {
    /// Computes `out = x W^T`: `[tokens, rows]` from activations of `[tokens, cols]`.
    ///
    /// # Panics
    /// As [`multiply`].
    pub fn matmul(&self, x: &Activations, out: &mut [f32], cpu: &Cpu) {
        multiply(&mut [Product::new(self, x, out)], cpu);
    }
}

/// Computes several products at once, so that threads meet once for all of them.
///
/// # Panics
/// If shapes do not fit, or activations lack the form that the weights ask for.
pub fn multiply(products: &mut [Product<'_>], cpu: &Cpu) {
    products.iter().for_each(Product::check);
    let all = products.iter().map(Product::tiles).sum::<usize>();
    let tiles = (all / (cpu.threads() * PARTS)).clamp(1, MOST_TILES);
    let mut parts = 0;
    for product in &mut *products {
        let first = parts;
        parts += product.tiles().div_ceil(tiles);
        product.parts = first..parts;
    }
    let products = &*products;
    cpu.run(parts, |_, part| {
        if let Some(product) = products.iter().find(|product| product.parts.contains(&part)) {
            product.part(part - product.parts.start, tiles, cpu.isa());
        }
    });
}

impl Product<'_> {
    fn part(&self, part: usize, tiles: usize, isa: Isa) {
        let tiles = part * tiles..((part + 1) * tiles).min(self.tiles());
        if self.x.lanes == 1 {
            return self.single(tiles, isa);
        }
        if self.weights.kind().is_plain() {
            return self.plain(tiles, isa);
        }
        for first in (0..self.tokens).step_by(BLOCK_TOKENS) {
            let tokens = BLOCK_TOKENS.min(self.tokens - first);
            for tile in tiles.clone() {
                let mut sums = [[0.0; TILE]; BLOCK_TOKENS];
                self.add(isa, tile, first, &mut sums[..tokens.next_multiple_of(PANEL)]);
                self.write(tile, first, &sums[..tokens]);
            }
        }
    }

    /// A part for a single token.
    fn single(&self, tiles: Range<usize>, isa: Isa) {
        let mut sums = [[0.0; TILE]; MOST_TILES];
        if self.weights.kind().is_plain() {
            let tiles = self.first_tile + tiles.start..self.first_tile + tiles.end;
            let work = Work::One { tiles, token: self.first_token };
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
        for first in (0..self.tokens).step_by(TOKENS) {
            let tokens = TOKENS.min(self.tokens - first);
            let padded = tokens.next_multiple_of(PANEL);
            let columns = (NUMBERS / padded).next_multiple_of(512);
            all.iter_mut().for_each(|sums| sums[..padded].fill([0.0; TILE]));
            for start in (0..x.cols).step_by(columns) {
                let columns = start..(start + columns).min(x.cols);
                for (tile, sums) in tiles.clone().zip(&mut all) {
                    let (tile, first) = (self.first_tile + tile, self.first_token + first);
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
        let (tile, first) = (self.first_tile + tile, self.first_token + first);
        match isa {
            Isa::Scalar => scalar::add(weights, tile, x, first, sums),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::add(weights, tile, x, first, sums),
            // Tiles hold more tokens than a panel, and begin with the first of all.
            #[cfg(target_arch = "x86_64")]
            Isa::Amx if x.tiled && self.tokens == x.tokens => amx::add(isa, weights, tile, x, first, sums),
            _ => dots::add(isa, weights, tile, x, first, sums),
        }
    }

    fn write(&self, tile: usize, first: usize, sums: &Sums) {
        let (rows, start) = (self.rows, tile * TILE);
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
