//! AMX: whole tiles of 16 tokens and 16 rows at once. What comes out are the whole numbers that [`super::dots`] sums
//! up, so that a token gets the same bits however many others share its step.
//!
//! An instruction takes 64 columns and multiplies them all alike, but scales change every 16 or 32. Blocks of 256 have
//! whole scales: they go into the weights, which then need more than a byte, so there are two planes of them, seven
//! bits and what lies above. Blocks of 32 have scales that are no whole numbers: the two blocks of a tile are two
//! planes, each with zeros where the other has its numbers. Instructions with fewer columns would not be faster.
#![expect(unsafe_code, reason = "tiles are set up for a thread")]

use super::{
    Sums,
    dots::{Factors, number, prefetch_ahead, sixteen},
    inputs::{CHUNK, Inputs, ahead, kind_of},
};
use crate::{
    Activations, Isa, Kind, Packed, TILE,
    activations::{COLUMNS, PANEL, ROWS, TILE_BYTES, tiles_in},
    packed::{Layout, STEP},
    simd::{Dots, DotsOp, Line},
    tiles::{self, Tiles},
};

/// How many tiles of weights a chunk of columns has.
const STEPS: usize = CHUNK / COLUMNS;
/// Lines of a tile of weights.
const LINES: usize = COLUMNS / 4;

/// Adds what a tile gives for the tokens from `first` on, with instructions that the processor was found to have, where
/// `x` has tiles.
pub(super) fn add(isa: Isa, weights: &Packed, tile: usize, x: &Activations, first: usize, sums: &mut Sums) {
    isa.run_dots(Amx { weights, tile, x, first, sums });
}

/// What a tile of weights gives for the tokens from `first` on, added to `sums`. The processor has tiles.
struct Amx<'a> {
    weights: &'a Packed,
    tile: usize,
    x: &'a Activations,
    first: usize,
    sums: &'a mut Sums,
}

impl DotsOp for Amx<'_> {
    #[inline(always)]
    fn run<S: Dots>(self, simd: S) {
        /// Calls the code of one kind.
        macro_rules! kinds {
            ($($kind:ident)*) => {
                match self.weights.kind() {
                    $(Kind::$kind => self.kind::<S, { Kind::$kind as usize }>(simd),)*
                    // Plain numbers go another way.
                    Kind::F16 | Kind::BF16 | Kind::F32 => {}
                }
            };
        }
        kinds!(Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2K Q3K Q4K Q5K Q6K IQ2XXS IQ2XS IQ2S IQ3XXS IQ3S IQ4NL IQ4XS MXFP4);
    }
}

impl Amx<'_> {
    #[inline(always)]
    fn kind<S: Dots, const K: usize>(self, simd: S) {
        let (kind, layout) = const { (kind_of(K), Layout::of(kind_of(K))) };
        let Self { weights, tile, x, first, sums } = self;
        // SAFETY: activations have tiles only where a `Cpu` found them, which asks the system for the whole process:
        // it does not matter whose team this thread is of. This thread's others were dropped.
        let tiles = unsafe { Tiles::new() };
        let blocks = CHUNK / kind.block();
        let mut chunk = Chunk { planes: [[[0; STEP]; STEPS * LINES]; 2], tile: &[], at: 0 };
        for (at, bytes) in weights.tile(tile).chunks(blocks * layout.bytes).enumerate() {
            (chunk.tile, chunk.at) = (bytes, at);
            chunk.unpack_block::<S, K>(simd);
            for (pair, sums) in sums.chunks_mut(2 * ROWS).enumerate() {
                let first = first + pair * 2 * ROWS;
                chunk.multiply::<S, K>(simd, &tiles, x, first, sums);
            }
        }
    }
}

/// 256 columns of a tile of weights, or what is left of them.
struct Chunk<'a> {
    planes: [[Line; STEPS * LINES]; 2],
    tile: &'a [u8],
    /// Which one it is.
    at: usize,
}

impl Chunk<'_> {
    /// Writes both planes.
    #[inline(always)]
    fn unpack_block<S: Dots, const K: usize>(&mut self, simd: S) {
        let (kind, layout) = const { (kind_of(K), Layout::of(kind_of(K))) };
        if !kind.is_super() {
            // A chunk that is cut short leaves no numbers of the last one behind.
            self.planes = [[[0; STEP]; STEPS * LINES]; 2];
        }
        for (at, block) in self.tile.chunks_exact(layout.bytes).enumerate() {
            let lines = block[layout.planes..].as_chunks::<STEP>().0;
            for unit in 0..kind.block() / 32 {
                for step in 0..8 {
                    prefetch_ahead::<S, K>(simd, block, const { ahead(kind_of(K)) }, unit, step);
                    let q = number::<S, K>(simd, lines, unit, step);
                    if kind.is_super() {
                        let scale = sixteen(&block[layout.scales..], (32 * unit + 4 * step) / kind.group());
                        let [low, high] = scaled(simd, q, simd.widen_i8_pairs(scale, scale));
                        simd.store_line(low, &mut self.planes[0][8 * unit + step]);
                        simd.store_line(high, &mut self.planes[1][8 * unit + step]);
                    } else {
                        simd.store_line(q, &mut self.planes[at % 2][8 * at + step]);
                    }
                }
            }
        }
    }

    /// Multiplies with up to two tiles of tokens.
    #[inline(always)]
    fn multiply<S: Dots, const K: usize>(
        &self,
        simd: S,
        tiles: &Tiles,
        x: &Activations,
        first: usize,
        sums: &mut Sums,
    ) {
        let kind = const { kind_of(K) };
        let bytes = if kind.is_super() { &x.large.tiles } else { &x.small.tiles };
        let across = tiles_in(x.cols);
        let tokens = |tile: usize| &bytes[((first / ROWS + tile) * across + self.at * STEPS) * TILE_BYTES..];
        // With tokens for one tile alone, the other's sums are not looked at.
        let x_tiles = [tokens(0), tokens(usize::from(sums.len() > ROWS))];
        let planes = [self.planes[0].as_flattened(), self.planes[1].as_flattened()];
        let mut out: tiles::Sums = [[[[0; STEP]; ROWS]; 2]; 2];
        if kind.is_super() {
            tiles.multiply_signed(x_tiles, planes, STEPS, &mut out);
            let factors = self.factors::<S, K>(simd, 0);
            for (token, sum) in sums.iter_mut().enumerate() {
                let [low, high] = [0, 1].map(|plane| simd.load_line(&out[plane][token / ROWS][token % ROWS]));
                let dot = simd.add_i32(simd.shift_left(high, 7), low);
                self.finish::<S, K>(simd, &factors, x, (0, first + token), dot, sum);
            }
            return;
        }
        let blocks = self.tile.len() / const { Layout::of(kind_of(K)).bytes };
        for step in 0..blocks.div_ceil(2) {
            let skip = step * TILE_BYTES;
            tiles.multiply_unsigned(x_tiles.map(|x| &x[skip..]), planes.map(|p| &p[skip..]), 1, &mut out);
            for (block, out) in (2 * step..blocks).zip(&out) {
                let factors = self.factors::<S, K>(simd, block);
                for (token, sum) in sums.iter_mut().enumerate() {
                    let dot = simd.load_line(&out[token / ROWS][token % ROWS]);
                    self.finish::<S, K>(simd, &factors, x, (block, first + token), dot, sum);
                }
            }
        }
    }

    /// Returns what the sums of a block are multiplied with.
    #[inline(always)]
    fn factors<S: Dots, const K: usize>(&self, simd: S, block: usize) -> Factors<S> {
        let layout = const { Layout::of(kind_of(K)) };
        Factors::of::<K>(simd, &self.tile[block * layout.bytes..][..layout.bytes])
    }

    /// Adds the sum of a block for a token.
    #[inline(always)]
    fn finish<S: Dots, const K: usize>(
        &self,
        simd: S,
        factors: &Factors<S>,
        x: &Activations,
        (block, token): (usize, usize),
        dot: S::I,
        sum: &mut [f32; TILE],
    ) {
        let at = self.at * const { CHUNK / kind_of(K).block() } + block;
        let x = Inputs::of::<K, PANEL>(x, token / PANEL).block::<K, PANEL>(at);
        let added = factors.add::<K, PANEL>(simd, &x, token % PANEL, dot, simd.load(sum));
        simd.store(added, sum);
    }
}

/// Multiplies bytes with the scales of their rows, each of which is there twice, and returns seven bits of the products
/// and the eight above.
#[inline(always)]
fn scaled<S: Dots>(simd: S, q: S::I, scale: S::I) -> [S::I; 2] {
    let bytes = simd.splat_i32(0x00ff_00ff);
    let seven = simd.splat_i32(0x007f_007f);
    let even = simd.mul_i16(simd.and(q, bytes), scale);
    let odd = simd.mul_i16(simd.and(simd.shift_right(q, 8), bytes), scale);
    let both = |even, odd| simd.or(even, simd.shift_left(odd, 8));
    [
        both(simd.and(even, seven), simd.and(odd, seven)),
        both(simd.and(simd.shift_right(even, 7), bytes), simd.and(simd.shift_right(odd, 7), bytes)),
    ]
}
