//! Products of bytes for every set with [`Dots`]: unsigned weights are multiplied with signed activations, and four
//! products added in 32 bits (VNNI's `vpdpbusd`, or plain Rust that compilers turn into vectors). Sixteen rows lie side by
//! side, so nothing is summed across a vector. Bytes with a sign have 128 added first, which the sums of the activations
//! take back.
//!
//! All sums of a block are whole numbers, and what follows them rounds as AVX2's kernels do: all sets with vectors give the
//! same bits.

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

/// Panels of tokens that are multiplied at once where a vector is one register: as many sums as the latency of the
/// instruction asks for.
const PANELS: usize = 2;

/// Adds what a tile gives for the tokens from `first` on, with a set that has [`Dots`].
pub(super) fn add(isa: Isa, weights: &Packed, tile: usize, x: &Activations, first: usize, sums: &mut Sums) {
    isa.run_dots(Tile { weights, tile, x, first, sums });
}

/// What a tile gives for the tokens from `first` on, added to `sums`.
struct Tile<'a> {
    weights: &'a Packed,
    tile: usize,
    x: &'a Activations,
    first: usize,
    sums: &'a mut Sums,
}

impl DotsOp for Tile<'_> {
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

impl Tile<'_> {
    #[inline(always)]
    fn kind<S: Dots, const K: usize>(self, simd: S) {
        let Self { weights, tile, x, first, sums } = self;
        let tile = weights.tile(tile);
        if x.lanes == 1 {
            let sums = sums.as_chunks_mut().0;
            if let Some(sums) = sums.as_mut_array() {
                few::<S, K, 1, 1>(simd, tile, x, first, sums);
            }
            return;
        }
        let first = first / PANEL;
        let sums = sums.as_chunks_mut().0;
        if let Some(sums) = sums.as_mut_array() {
            few::<S, K, PANEL, 1>(simd, tile, x, first, sums);
        } else if S::IS_WIDE
            && let Some(sums) = sums.as_mut_array()
        {
            few::<S, K, PANEL, PANELS>(simd, tile, x, first, sums);
        } else if S::IS_WIDE {
            several::<S, K, PANELS>(simd, tile, x, first, sums);
        } else {
            several::<S, K, 1>(simd, tile, x, first, sums);
        }
    }
}

/// Multiplies with as many tokens as there are registers for, straight from the packed numbers.
#[inline(always)]
fn few<S: Dots, const K: usize, const T: usize, const P: usize>(
    simd: S,
    tile: &[u8],
    x: &Activations,
    panel: usize,
    sums: &mut [[[f32; TILE]; T]; P],
) {
    let layout = const { Layout::of(kind_of(K)) };
    let ahead = const { ahead(kind_of(K)) };
    let mut all = [[simd.splat(0.0); T]; P];
    let panels = Panels::<T, P>::of::<K>(x, panel);
    for (at, block) in tile.chunks_exact(layout.bytes).enumerate() {
        let inputs = panels.block::<K>(at);
        let dots = dots::<S, K, T, P>(simd, block, &Whole { block, ahead }, &inputs);
        let factors = Factors::of::<K>(simd, block);
        for p in 0..P {
            for lane in 0..T {
                all[p][lane] = factors.add::<K, T>(simd, &inputs[p], lane, dots[p][lane], all[p][lane]);
            }
        }
    }
    for p in 0..P {
        for lane in 0..T {
            simd.store(all[p][lane], &mut sums[p][lane]);
        }
    }
}

/// The inputs of `P` panels of `T` tokens.
struct Panels<'a, const T: usize, const P: usize>([Inputs<'a>; P]);

impl<'a, const T: usize, const P: usize> Panels<'a, T, P> {
    #[inline(always)]
    fn of<const K: usize>(x: &'a Activations, first: usize) -> Self {
        let mut all = [Inputs::of::<K, T>(x, first); P];
        for (p, inputs) in all.iter_mut().enumerate() {
            *inputs = Inputs::of::<K, T>(x, first + p);
        }
        Self(all)
    }

    /// Returns those of a block.
    #[inline(always)]
    fn block<const K: usize>(&self, at: usize) -> [Inputs<'a>; P] {
        let mut all = self.0;
        for inputs in &mut all {
            *inputs = inputs.block::<K, T>(at);
        }
        all
    }
}

#[inline(always)]
fn several<S: Dots, const K: usize, const P: usize>(
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
            unpack_block::<S, K>(simd, block, blocks * layout.bytes, lines);
        }
        let part = Part { tile: bytes, lines: &lines, first: chunk * blocks };
        let mut panel = first;
        let (many, rest) = sums.as_chunks_mut::<P>();
        for sums in many {
            part.add::<S, K, P>(simd, x, panel, sums);
            panel += P;
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
        let panels = Panels::<PANEL, P>::of::<K>(x, panel);
        for (at, block) in self.tile.chunks_exact(layout.bytes).enumerate() {
            let inputs = panels.block::<K>(self.first + at);
            let lines = &self.lines[at * kind.block() / 4..][..const { kind_of(K).block() / 4 }];
            let dots = dots::<S, K, PANEL, P>(simd, block, &Apart(lines), &inputs);
            let factors = Factors::of::<K>(simd, block);
            for p in 0..P {
                for lane in 0..PANEL {
                    let sum = simd.load(&sums[p][lane]);
                    let sum = factors.add::<K, PANEL>(simd, &inputs[p], lane, dots[p][lane], sum);
                    simd.store(sum, &mut sums[p][lane]);
                }
            }
        }
    }
}

/// Where the bytes of a block come from. Not a closure: those are compiled without the instructions of their
/// surroundings wherever the compiler leaves them on their own.
trait Numbers {
    /// Returns the numbers of a step of four columns, without signs.
    fn step<S: Dots, const K: usize>(&self, simd: S, unit: usize, step: usize) -> S::I;
}

/// A packed block, of which each number is looked at once.
struct Whole<'a> {
    block: &'a [u8],
    ahead: usize,
}

impl Numbers for Whole<'_> {
    #[inline(always)]
    fn step<S: Dots, const K: usize>(&self, simd: S, unit: usize, step: usize) -> S::I {
        prefetch_ahead::<S, K>(simd, self.block, self.ahead, unit, step);
        let planes = const { Layout::of(kind_of(K)).planes };
        number::<S, K>(simd, self.block[planes..].as_chunks().0, unit, step)
    }
}

/// A block that was taken apart.
struct Apart<'a>(&'a [Line]);

impl Numbers for Apart<'_> {
    #[inline(always)]
    fn step<S: Dots, const K: usize>(&self, simd: S, unit: usize, step: usize) -> S::I {
        simd.load_line(&self.0[8 * unit + step])
    }
}

/// Sums up the products of a block, each group's multiplied with its scale.
#[inline(always)]
fn dots<S: Dots, const K: usize, const T: usize, const P: usize>(
    simd: S,
    block: &[u8],
    numbers: &impl Numbers,
    x: &[Inputs<'_>; P],
) -> [[S::I; T]; P] {
    let (kind, layout) = const { (kind_of(K), Layout::of(kind_of(K))) };
    let steps = const { kind_of(K).group() / 4 };
    let zero = [[simd.splat_i32(0); T]; P];
    let mut all = zero;
    for unit in 0..kind.block() / 32 {
        for part in 0..8 / steps {
            let mut group = zero;
            for step in part * steps..(part + 1) * steps {
                let weights = numbers.step::<S, K>(simd, unit, step);
                for p in 0..P {
                    let q = &x[p].q[(8 * unit + step) * T..][..T];
                    for lane in 0..T {
                        let q = simd.splat_i32(i32::from_ne_bytes(q[lane].map(i8::cast_unsigned)));
                        group[p][lane] = simd.dot_i8(group[p][lane], weights, q);
                    }
                }
            }
            if !kind.is_super() {
                return group;
            }
            let at = (32 * unit + 4 * part * steps) / kind.group();
            let scale = simd.widen_i8(sixteen(&block[layout.scales..], at));
            for p in 0..P {
                for lane in 0..T {
                    all[p][lane] = simd.add_i32(all[p][lane], simd.mul_i32(group[p][lane], scale));
                }
            }
        }
    }
    all
}

/// What the whole numbers of a block are multiplied with.
pub(super) struct Factors<S: Dots> {
    d: S::F,
    /// `-m` of kinds with minima.
    m: S::F,
    /// Of two groups each: the minima, or the scales of a kind without.
    mins: [S::I; 8],
}

impl<S: Dots> Factors<S> {
    #[inline(always)]
    pub(super) fn of<const K: usize>(simd: S, block: &[u8]) -> Self {
        let (kind, layout) = const { (kind_of(K), Layout::of(kind_of(K))) };
        let zero = simd.splat(0.0);
        let mut mins = [simd.splat_i32(0); 8];
        if kind.is_super() {
            for (pair, mins) in mins.iter_mut().enumerate().take(kind.groups() / 2) {
                *mins = pair_of_mins::<S, K>(simd, block, pair);
            }
        }
        let m = if kind.has_min() { simd.sub(zero, halves(simd, block, layout.m)) } else { zero };
        let d = halves(simd, block, 0);
        let d = if kind.unit() == 1.0 { d } else { simd.mul(d, simd.splat(kind.unit())) };
        Self { d, m, mins }
    }

    /// Adds a block's whole number for a token to its sum.
    #[inline(always)]
    pub(super) fn add<const K: usize, const T: usize>(
        &self,
        simd: S,
        x: &Inputs<'_>,
        lane: usize,
        dot: S::I,
        sum: S::F,
    ) -> S::F {
        let kind = const { kind_of(K) };
        let mut offset = simd.splat_i32(0);
        if kind.is_super() {
            for pair in 0..kind.groups() / 2 {
                offset = simd.dot_i16(offset, self.mins[pair], simd.splat_i32(x.sums[pair * T + lane]));
            }
        } else {
            offset = simd.splat_i32(x.sums[lane]);
        }
        let scale = simd.splat(x.scales[lane]);
        let d = simd.mul(self.d, scale);
        if kind.has_min() {
            let sum = simd.fma(simd.to_f32(dot), d, sum);
            return simd.fma(simd.to_f32(offset), simd.mul(self.m, scale), sum);
        }
        let dot = simd.sub_i32(dot, simd.shift_left(offset, const { shift(kind_of(K)) }));
        simd.fma(simd.to_f32(dot), d, sum)
    }
}

/// What was added to every number of a kind without minima: a power of two, of which this is the exponent.
const fn shift(kind: Kind) -> u32 {
    match kind.planes() {
        Planes::Eight | Planes::Table(_) => 7,
        _ => kind.zero().trailing_zeros(),
    }
}

/// Returns the numbers of a step, without signs: unit of 32 columns, step of four columns in it.
#[inline(always)]
pub(super) fn number<S: Dots, const K: usize>(simd: S, lines: &[Line], unit: usize, step: usize) -> S::I {
    let planes = const { kind_of(K).planes() };
    let lines = &lines[unit * planes.bytes() / STEP..(unit + 1) * planes.bytes() / STEP];
    match planes {
        Planes::Eight => simd.xor(simd.load_line(&lines[step]), simd.splat_i32(i32::from_ne_bytes([128; 4]))),
        Planes::Four => four(simd, lines, step),
        Planes::Table(_) => simd.lookup(four(simd, lines, step), const { &unsigned_table(kind_of(K)) }),
        Planes::FourOne => simd.or(four(simd, lines, step), bits(simd, &lines[4], step, 1, 4)),
        Planes::FourTwo => {
            simd.or(four(simd, lines, step), bits(simd, &lines[4 + step / 4], step % 4 * 2, 3, 4))
        }
        Planes::Two => bits(simd, &lines[step / 4], step % 4 * 2, 3, 0),
        Planes::TwoOne => {
            simd.or(bits(simd, &lines[step / 4], step % 4 * 2, 3, 0), bits(simd, &lines[2], step, 1, 2))
        }
        Planes::None => simd.splat_i32(0),
    }
}

/// Returns what four bits of a kind stand for, with 128 added: without signs.
const fn unsigned_table(kind: Kind) -> [u8; 16] {
    let mut out = [0; 16];
    if let Planes::Table(table) = kind.planes() {
        let mut at = 0;
        while at < 16 {
            out[at] = table[at].cast_unsigned() ^ 128;
            at += 1;
        }
    }
    out
}

/// Returns the low four bits of a step.
#[inline(always)]
fn four<S: Dots>(simd: S, lines: &[Line], step: usize) -> S::I {
    bits(simd, &lines[step / 2], step % 2 * 4, 15, 0)
}

/// Returns some bits of each byte, from bit `from` on, as the ones from bit `to` on.
#[inline(always)]
fn bits<S: Dots>(simd: S, line: &Line, from: usize, mask: u8, to: u32) -> S::I {
    // Shifts move bits across bytes; the mask takes away what came from the neighbour.
    let bits = simd.shift_right(simd.load_line(line), from as u32);
    simd.shift_left(simd.and(bits, simd.splat_i32(i32::from_ne_bytes([mask; 4]))), to)
}

/// Writes the numbers of a block as bytes, step by step, and asks for what lies `ahead`.
#[inline(always)]
fn unpack_block<S: Dots, const K: usize>(simd: S, block: &[u8], ahead: usize, out: &mut [Line]) {
    let lines = block[const { Layout::of(kind_of(K)).planes }..].as_chunks().0;
    for (unit, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        for (step, out) in out.iter_mut().enumerate() {
            prefetch_ahead::<S, K>(simd, block, ahead, unit, step);
            simd.store_line(number::<S, K>(simd, lines, unit, step), out);
        }
    }
}

/// Returns the minima of two groups, side by side; for kinds without minima their scales.
#[inline(always)]
fn pair_of_mins<S: Dots, const K: usize>(simd: S, block: &[u8], pair: usize) -> S::I {
    let (kind, layout) = const { (kind_of(K), Layout::of(kind_of(K))) };
    if kind.has_min() {
        let mins = &block[layout.mins..];
        return simd.widen_u8_pairs(sixteen(mins, 2 * pair), sixteen(mins, 2 * pair + 1));
    }
    let scales = &block[layout.scales..];
    simd.widen_i8_pairs(sixteen(scales, 2 * pair), sixteen(scales, 2 * pair + 1))
}

/// Asks for the weights that follow those of a unit, one line of the cache a step.
#[inline(always)]
pub(super) fn prefetch_ahead<S: Dots, const K: usize>(
    simd: S,
    block: &[u8],
    ahead: usize,
    unit: usize,
    step: usize,
) {
    let each = const { Layout::of(kind_of(K)).bytes / (kind_of(K).block() / 32) };
    if step < each.div_ceil(64) {
        simd.prefetch(block.as_ptr().wrapping_add(ahead + unit * each + step * 64));
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
