//! VNNI: `vpdpbusd` multiplies unsigned weights with signed activations and adds four products in 32 bits. Sixteen rows
//! lie side by side, so nothing is summed across a vector. Bytes with a sign have 128 added first, which the sums of the
//! activations take back.
//!
//! All sums of a block are whole numbers, and what follows them rounds as AVX2's kernels do: both give the same bits.

use super::{
    Sums,
    inputs::{CHUNK, Inputs, ahead, kind_of},
};
use crate::{
    Activations, Isa, Kind, Packed, TILE,
    activations::PANEL,
    kind::Planes,
    packed::{Layout, STEP},
    simd::{Dots, DotsOp, Line},
};

/// Panels of tokens that are multiplied at once: as many sums as the latency of the instruction asks for.
const PANELS: usize = 2;

/// Adds what a tile gives for the tokens from `first` on, with instructions that the processor was found to have.
pub(super) fn add(isa: Isa, weights: &Packed, tile: usize, x: &Activations, first: usize, sums: &mut Sums) {
    isa.run_dots(Vnni { weights, tile, x, first, sums });
}

/// What a tile gives for the tokens from `first` on, added to `sums`.
struct Vnni<'a> {
    weights: &'a Packed,
    tile: usize,
    x: &'a Activations,
    first: usize,
    sums: &'a mut Sums,
}

impl DotsOp for Vnni<'_> {
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
        kinds!(Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2K Q3K Q4K Q5K Q6K);
    }
}

impl Vnni<'_> {
    #[inline(always)]
    fn kind<S: Dots, const K: usize>(self, simd: S) {
        let Self { weights, tile, x, first, sums } = self;
        let tile = weights.tile(tile);
        if x.lanes == 1 {
            if let Some(sums) = sums.first_chunk_mut() {
                few::<S, K, 1>(simd, tile, x, 0, sums);
            }
            return;
        }
        match sums.as_chunks_mut().0 {
            [panel] => few::<S, K, PANEL>(simd, tile, x, first / PANEL, panel),
            panels => several::<S, K>(simd, tile, x, first / PANEL, panels),
        }
    }
}

/// Multiplies with as many tokens as lie side by side, straight from the packed numbers.
#[inline(always)]
fn few<S: Dots, const K: usize, const T: usize>(
    simd: S,
    tile: &[u8],
    x: &Activations,
    panel: usize,
    sums: &mut [[f32; TILE]; T],
) {
    let layout = const { Layout::of(kind_of(K)) };
    let ahead = const { ahead(kind_of(K)) };
    let mut all = [simd.splat(0.0); T];
    for (at, block) in tile.chunks_exact(layout.bytes).enumerate() {
        let x = [Inputs::of::<K, T>(x, panel, at)];
        let lines = block[layout.planes..].as_chunks::<STEP>().0;
        let number = |unit: usize, step: usize| {
            ask_ahead::<S, K>(simd, block, ahead, unit, step);
            number::<S, K>(simd, lines, unit, step)
        };
        let scale = |group: usize| simd.signed(sixteen(&block[layout.scales..], group));
        let [dots] = dots::<S, K, T, 1>(simd, number, &x, scale);
        let mins = |pair: usize| mins::<S, K>(simd, block, pair);
        for lane in 0..T {
            all[lane] = finish::<S, K, T>(simd, block, &x[0], lane, dots[lane], mins, all[lane]);
        }
    }
    for (all, sums) in all.into_iter().zip(sums) {
        simd.store(all, sums);
    }
}

#[inline(always)]
fn several<S: Dots, const K: usize>(
    simd: S,
    tile: &[u8],
    x: &Activations,
    first: usize,
    sums: &mut [[[f32; TILE]; PANEL]],
) {
    let kind = const { kind_of(K) };
    let layout = const { Layout::of(kind_of(K)) };
    let mut lines = [[0; STEP]; CHUNK / 4];
    let blocks = CHUNK / kind.block();
    for (chunk, bytes) in tile.chunks(blocks * layout.bytes).enumerate() {
        for (block, lines) in bytes.chunks_exact(layout.bytes).zip(lines.chunks_exact_mut(kind.block() / 4)) {
            take_apart::<S, K>(simd, block, blocks * layout.bytes, lines);
        }
        let part = Part { tile: bytes, lines: &lines, first: chunk * blocks };
        let mut panel = first;
        let (pairs, rest) = sums.as_chunks_mut::<PANELS>();
        for sums in pairs {
            part.add::<S, K, PANELS>(simd, x, panel, sums);
            panel += PANELS;
        }
        for sums in rest {
            part.add::<S, K, 1>(simd, x, panel, std::array::from_mut(sums));
            panel += 1;
        }
    }
}

/// Some blocks of a tile, taken apart.
struct Part<'a> {
    tile: &'a [u8],
    lines: &'a [Line],
    /// The first block among all of the tile.
    first: usize,
}

impl Part<'_> {
    /// Adds what it gives for `P` panels.
    #[inline(always)]
    fn add<S: Dots, const K: usize, const P: usize>(
        &self,
        simd: S,
        x: &Activations,
        panel: usize,
        sums: &mut [[[f32; TILE]; PANEL]; P],
    ) {
        let (kind, layout) = const { (kind_of(K), Layout::of(kind_of(K))) };
        for (at, block) in self.tile.chunks_exact(layout.bytes).enumerate() {
            let x: [_; P] = std::array::from_fn(|p| Inputs::of::<K, PANEL>(x, panel + p, self.first + at));
            let lines = &self.lines[at * kind.block() / 4..(at + 1) * kind.block() / 4];
            let number = |unit: usize, step: usize| simd.line(&lines[8 * unit + step]);
            let scale = |group: usize| simd.signed(sixteen(&block[layout.scales..], group));
            let dots = dots::<S, K, PANEL, P>(simd, number, &x, scale);
            let mins = |pair: usize| mins::<S, K>(simd, block, pair);
            for p in 0..P {
                for lane in 0..PANEL {
                    let sum = simd.load(&sums[p][lane]);
                    let sum = finish::<S, K, PANEL>(simd, block, &x[p], lane, dots[p][lane], mins, sum);
                    simd.store(sum, &mut sums[p][lane]);
                }
            }
        }
    }
}

/// Sums up the products of a block, each group's multiplied with its scale.
#[inline(always)]
fn dots<S: Dots, const K: usize, const T: usize, const P: usize>(
    simd: S,
    number: impl Fn(usize, usize) -> S::I,
    x: &[Inputs<'_>; P],
    scale: impl Fn(usize) -> S::I,
) -> [[S::I; T]; P] {
    let kind = const { kind_of(K) };
    let steps = const { kind_of(K).group() / 4 };
    let zero = [[simd.whole(0); T]; P];
    let mut all = zero;
    for unit in 0..kind.block() / 32 {
        for part in 0..8 / steps {
            let mut group = zero;
            for step in part * steps..(part + 1) * steps {
                let weights = number(unit, step);
                for p in 0..P {
                    let q = &x[p].q[(8 * unit + step) * T..(8 * unit + step + 1) * T];
                    for lane in 0..T {
                        let q = simd.whole(i32::from_ne_bytes(q[lane].map(i8::cast_unsigned)));
                        group[p][lane] = simd.dot_bytes(group[p][lane], weights, q);
                    }
                }
            }
            if !kind.is_super() {
                return group;
            }
            let scale = scale((32 * unit + 4 * part * steps) / kind.group());
            for p in 0..P {
                for lane in 0..T {
                    all[p][lane] = simd.plus(all[p][lane], simd.times(group[p][lane], scale));
                }
            }
        }
    }
    all
}

/// Adds a block's whole numbers to the sums of a tile, with what they are to be multiplied with.
#[inline(always)]
pub(super) fn finish<S: Dots, const K: usize, const T: usize>(
    simd: S,
    block: &[u8],
    x: &Inputs<'_>,
    lane: usize,
    dot: S::I,
    mins: impl Fn(usize) -> S::I,
    sum: S::F,
) -> S::F {
    let (kind, layout) = const { (kind_of(K), Layout::of(kind_of(K))) };
    let offset = if kind.is_super() {
        let mut offset = simd.whole(0);
        for pair in 0..kind.groups() / 2 {
            offset = simd.dot_words(offset, mins(pair), simd.whole(x.sums[pair * T + lane]));
        }
        offset
    } else {
        simd.whole(x.sums[lane])
    };
    let scale = simd.splat(x.scales[lane]);
    let d = simd.mul(halves(simd, block, 0), scale);
    if kind.has_min() {
        let m = simd.mul(halves(simd, block, layout.m), scale);
        let sum = simd.fma(simd.floats(dot), d, sum);
        // `sum - offset * m`, rounded once.
        return simd.fma(simd.sub(simd.splat(0.0), simd.floats(offset)), m, sum);
    }
    let offset = simd.times(offset, simd.whole(const { shift(kind_of(K)) }));
    simd.fma(simd.floats(simd.minus(dot, offset)), d, sum)
}

/// What was added to every number of a kind without minima.
const fn shift(kind: Kind) -> i32 {
    match kind.planes() {
        Planes::Eight => 128,
        _ => kind.zero(),
    }
}

/// Returns the numbers of a step, without signs: unit of 32 columns, step of four columns in it.
#[inline(always)]
pub(super) fn number<S: Dots, const K: usize>(simd: S, lines: &[Line], unit: usize, step: usize) -> S::I {
    let planes = const { kind_of(K).planes() };
    let lines = &lines[unit * planes.bytes() / STEP..(unit + 1) * planes.bytes() / STEP];
    // Shifts move bits across bytes; the mask takes away what came from the neighbour.
    let bits = |line: usize, from: usize, mask: u8, to: u32| {
        let bits = simd.shift_right(simd.line(&lines[line]), from as u32);
        simd.shift_left(simd.and(bits, simd.whole(i32::from_ne_bytes([mask; 4]))), to)
    };
    let four = || bits(step / 2, step % 2 * 4, 15, 0);
    match planes {
        Planes::Eight => simd.xor(simd.line(&lines[step]), simd.whole(i32::from_ne_bytes([128; 4]))),
        Planes::Four => four(),
        Planes::FourOne => simd.or(four(), bits(4, step, 1, 4)),
        Planes::FourTwo => simd.or(four(), bits(4 + step / 4, step % 4 * 2, 3, 4)),
        Planes::Two => bits(step / 4, step % 4 * 2, 3, 0),
        Planes::TwoOne => simd.or(bits(step / 4, step % 4 * 2, 3, 0), bits(2, step, 1, 2)),
        Planes::None => simd.whole(0),
    }
}

/// Writes the numbers of a block as bytes, step by step, and asks for what lies `ahead`.
#[inline(always)]
fn take_apart<S: Dots, const K: usize>(simd: S, block: &[u8], ahead: usize, out: &mut [Line]) {
    let lines = block[const { Layout::of(kind_of(K)).planes }..].as_chunks().0;
    for (unit, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        for (step, out) in out.iter_mut().enumerate() {
            ask_ahead::<S, K>(simd, block, ahead, unit, step);
            simd.keep(number::<S, K>(simd, lines, unit, step), out);
        }
    }
}

/// Returns the minima of two groups, side by side; for kinds without minima their scales.
#[inline(always)]
pub(super) fn mins<S: Dots, const K: usize>(simd: S, block: &[u8], pair: usize) -> S::I {
    let (kind, layout) = const { (kind_of(K), Layout::of(kind_of(K))) };
    if kind.has_min() {
        let mins = &block[layout.mins..];
        return simd.unsigned_pairs(sixteen(mins, 2 * pair), sixteen(mins, 2 * pair + 1));
    }
    let scales = &block[layout.scales..];
    simd.signed_pairs(sixteen(scales, 2 * pair), sixteen(scales, 2 * pair + 1))
}

/// Asks for the weights that follow those of a unit, one line of the cache a step.
#[inline(always)]
pub(super) fn ask_ahead<S: Dots, const K: usize>(
    simd: S,
    block: &[u8],
    ahead: usize,
    unit: usize,
    step: usize,
) {
    let each = const { Layout::of(kind_of(K)).bytes / (kind_of(K).block() / 32) };
    if step < each.div_ceil(64) {
        simd.ask(block.as_ptr().wrapping_add(ahead + unit * each + step * 64));
    }
}

/// Returns the bytes of a group.
#[inline(always)]
pub(super) fn sixteen(bytes: &[u8], group: usize) -> &[u8; TILE] {
    &bytes.as_chunks::<TILE>().0[group]
}

/// Reads the `f16` that begin at `start`: a number for each row.
#[inline(always)]
fn halves<S: Dots>(simd: S, block: &[u8], start: usize) -> S::F {
    let bytes: &[[u8; 2]; TILE] = &block[start..].as_chunks::<2>().0.as_chunks::<TILE>().0[0];
    simd.load_half(&bytes.map(u16::from_le_bytes))
}
