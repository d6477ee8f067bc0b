//! AVX2: a chunk of a tile is taken apart into bytes in the first-level cache, and multiplied with all tokens from
//! there, four at a time.
//!
//! `vpmaddubsw` multiplies unsigned weights with signed activations and adds pairs into 16 bits; as many such sums as
//! cannot overflow are added up before `vpmaddwd` widens them, multiplying with the group's scale on the way. Eight rows
//! fill a vector, so a tile has two.
#![expect(unsafe_code, reason = "vectors are loaded from and stored to memory by pointers")]

use std::arch::x86_64::*;

use crate::{
    Activations, Kind, Packed, TILE,
    kind::Planes,
    packed::{Layout, STEP},
};

/// Columns that are taken apart at once.
const CHUNK: usize = 256;
/// Steps of four columns in a chunk.
const STEPS: usize = CHUNK / 4;

/// Four columns of all 16 rows, a byte each.
type Step = [u8; STEP];

/// A chunk of a tile, taken apart.
struct Chunk {
    steps: [Step; STEPS],
    /// The scale of each group and row, twice in 32 bits.
    scales: [[i32; TILE]; CHUNK / 16],
    /// The minima of two groups of a row in 32 bits.
    mins: [[i32; TILE]; CHUNK / 32],
}

/// Adds one tile's 16 results for each token to `sums`.
pub(super) fn tile(weights: &Packed, tile: usize, x: &Activations, sums: &mut [[f32; TILE]]) {
    // SAFETY: `Isa::checked` found these instructions in this processor.
    unsafe { add(weights, weights.tile(tile), x, sums) }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn add(weights: &Packed, tile: &[u8], x: &Activations, sums: &mut [[f32; TILE]]) {
    let kind = weights.kind();
    let layout = Layout::of(kind);
    let mut chunk =
        Chunk { steps: [[0; STEP]; STEPS], scales: [[0; TILE]; CHUNK / 16], mins: [[0; TILE]; CHUNK / 32] };
    let blocks = CHUNK / kind.block();
    for (at, bytes) in tile.chunks(blocks * layout.bytes).enumerate() {
        for (block, steps) in
            bytes.chunks_exact(layout.bytes).zip(chunk.steps.chunks_exact_mut(kind.block() / 4))
        {
            take_apart(kind.planes(), &block[layout.planes..], steps);
        }
        let first = at * CHUNK;
        if kind.is_super() {
            take_scales(kind, &layout, bytes, &mut chunk);
        }
        match x.lanes {
            1 => panels::<1>(kind, &layout, bytes, &chunk, x, first, sums),
            _ => panels::<4>(kind, &layout, bytes, &chunk, x, first, sums),
        }
    }
}

/// Multiplies a chunk that begins at column `first` with every token.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn panels<const T: usize>(
    kind: Kind,
    layout: &Layout,
    bytes: &[u8],
    chunk: &Chunk,
    x: &Activations,
    first: usize,
    sums: &mut [[f32; TILE]],
) {
    for (panel, sums) in sums.chunks_exact_mut(T).enumerate() {
        let place = Place { x, panel, first };
        if kind.is_super() {
            block_of_256::<T>(kind, layout, bytes, chunk, &place, sums);
        } else {
            for (at, block) in bytes.chunks_exact(layout.bytes).enumerate() {
                let place = Place { first: first + 32 * at, ..place };
                block_of_32::<T>(kind, layout, block, &chunk.steps[8 * at..8 * at + 8], &place, sums);
            }
        }
    }
}

/// Where a block stands among the activations of a panel of tokens.
#[derive(Clone, Copy)]
struct Place<'a> {
    x: &'a Activations,
    panel: usize,
    /// Its first column.
    first: usize,
}

impl Place<'_> {
    /// Returns the bytes of `cols` columns, four columns of one token after another.
    #[inline]
    fn numbers(&self, cols: usize) -> &[[i8; 4]] {
        let Activations { cols: all, lanes, q, .. } = self.x;
        let start = (self.panel * all + self.first) * lanes;
        q[start..start + cols * lanes].as_chunks().0
    }

    #[inline]
    fn scale(&self, lane: usize) -> f32 {
        let Activations { cols, block, lanes, scales, .. } = self.x;
        scales[(self.panel * cols + self.first) / block * lanes + lane]
    }

    /// Returns the sum of group `group` of the block.
    #[inline]
    fn sum(&self, group: usize, lane: usize) -> i32 {
        let Activations { cols, group: size, lanes, sums, .. } = self.x;
        sums[((self.panel * cols + self.first) / size + group) * lanes + lane]
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn block_of_32<const T: usize>(
    kind: Kind,
    layout: &Layout,
    block: &[u8],
    steps: &[Step],
    place: &Place<'_>,
    sums: &mut [[f32; TILE]],
) {
    let ones = [[0x0001_0001; TILE]];
    let q = place.numbers(32);
    let dots = match kind {
        Kind::Q8_0 => signed::<T>(steps, q),
        Kind::Q5_0 | Kind::Q5_1 => unsigned::<T, 4, 2>(steps, q, &ones),
        _ => unsigned::<T, 8, 1>(steps, q, &ones),
    };
    for (half, dots) in dots.iter().enumerate() {
        let d = halves(block, half);
        for (lane, sums) in sums.iter_mut().enumerate() {
            let scale = _mm256_set1_ps(place.scale(lane));
            let (sum, dot) = (load_f32(sums, half), dots[lane]);
            let sum = if kind.has_min() {
                let m = halves(&block[layout.m..], half);
                let sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(d, scale), sum);
                let offset = _mm256_set1_ps(place.sum(0, lane) as f32);
                _mm256_fnmadd_ps(offset, _mm256_mul_ps(m, scale), sum)
            } else {
                let offset = _mm256_set1_epi32(place.sum(0, lane) * kind.zero());
                let dot = _mm256_sub_epi32(dot, offset);
                _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(d, scale), sum)
            };
            store_f32(sums, half, sum);
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn block_of_256<const T: usize>(
    kind: Kind,
    layout: &Layout,
    block: &[u8],
    chunk: &Chunk,
    place: &Place<'_>,
    sums: &mut [[f32; TILE]],
) {
    let q = place.numbers(256);
    let scales = &chunk.scales[..kind.groups()];
    let dots = match kind {
        Kind::Q4K => unsigned::<T, 8, 1>(&chunk.steps, q, scales),
        Kind::Q5K => unsigned::<T, 4, 2>(&chunk.steps, q, scales),
        Kind::Q6K => unsigned::<T, 2, 2>(&chunk.steps, q, scales),
        _ => unsigned::<T, 4, 1>(&chunk.steps, q, scales),
    };
    for (half, dots) in dots.iter().enumerate() {
        let d = halves(block, half);
        for (lane, sums) in sums.iter_mut().enumerate() {
            let mut offset = _mm256_setzero_si256();
            for (pair, mins) in chunk.mins[..kind.groups() / 2].iter().enumerate() {
                let (even, odd) = (place.sum(2 * pair, lane), place.sum(2 * pair + 1, lane));
                let both = _mm256_set1_epi32(even & 0xffff | odd << 16);
                offset = _mm256_add_epi32(offset, _mm256_madd_epi16(load_i32(mins, half), both));
            }
            let scale = _mm256_set1_ps(place.scale(lane));
            let (sum, dot) = (load_f32(sums, half), dots[lane]);
            let sum = if kind.has_min() {
                let m = halves(&block[layout.m..], half);
                let sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(d, scale), sum);
                _mm256_fnmadd_ps(_mm256_cvtepi32_ps(offset), _mm256_mul_ps(m, scale), sum)
            } else {
                let dot = _mm256_sub_epi32(dot, offset);
                _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(d, scale), sum)
            };
            store_f32(sums, half, sum);
        }
    }
}

/// Sums up products of unsigned weights. `STEPS` steps fit 16 bits; `TIMES` of those share a scale.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn unsigned<const T: usize, const STEPS: usize, const TIMES: usize>(
    steps: &[Step],
    q: &[[i8; 4]],
    scales: &[[i32; TILE]],
) -> [[__m256i; T]; 2] {
    let zero = [[_mm256_setzero_si256(); T]; 2];
    let mut wide = zero;
    let parts = steps.chunks_exact(STEPS).zip(q.chunks_exact(STEPS * T));
    for (at, (steps, q)) in parts.enumerate() {
        let mut narrow = zero;
        for (step, q) in steps.iter().zip(q.chunks_exact(T)) {
            let (low, high) = (load(step, 0), load(step, 1));
            for lane in 0..T {
                let q = _mm256_set1_epi32(i32::from_ne_bytes(q[lane].map(i8::cast_unsigned)));
                narrow[0][lane] = _mm256_add_epi16(narrow[0][lane], _mm256_maddubs_epi16(low, q));
                narrow[1][lane] = _mm256_add_epi16(narrow[1][lane], _mm256_maddubs_epi16(high, q));
            }
        }
        let scales = &scales[at / TIMES];
        for (half, (wide, narrow)) in wide.iter_mut().zip(&narrow).enumerate() {
            let scale = load_i32(scales, half);
            for (wide, narrow) in wide.iter_mut().zip(narrow) {
                *wide = _mm256_add_epi32(*wide, _mm256_madd_epi16(*narrow, scale));
            }
        }
    }
    wide
}

/// Sums up products of signed weights: the sign moves to the activation, since one factor must be unsigned.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn signed<const T: usize>(steps: &[Step], q: &[[i8; 4]]) -> [[__m256i; T]; 2] {
    let mut wide = [[_mm256_setzero_si256(); T]; 2];
    let ones = _mm256_set1_epi16(1);
    for (step, q) in steps.iter().zip(q.chunks_exact(T)) {
        for (half, wide) in wide.iter_mut().enumerate() {
            let weights = load(step, half);
            let absolute = _mm256_abs_epi8(weights);
            for (wide, q) in wide.iter_mut().zip(q) {
                let q = _mm256_set1_epi32(i32::from_ne_bytes(q.map(i8::cast_unsigned)));
                let pairs = _mm256_maddubs_epi16(absolute, _mm256_sign_epi8(q, weights));
                *wide = _mm256_add_epi32(*wide, _mm256_madd_epi16(pairs, ones));
            }
        }
    }
    wide
}

/// Writes the numbers of a block as bytes, step by step.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn take_apart(planes: Planes, bytes: &[u8], steps: &mut [Step]) {
    let lines = bytes.as_chunks::<STEP>().0;
    for (lines, steps) in lines.chunks_exact(planes.bytes() / STEP).zip(steps.as_chunks_mut::<8>().0) {
        for half in 0..2 {
            let line = |at: usize| load(&lines[at], half);
            match planes {
                Planes::Eight => (0..8).for_each(|at| store(&mut steps[at], half, line(at))),
                Planes::Four => four(line, |at, q| store(&mut steps[at], half, q)),
                Planes::FourOne => {
                    let fifth = line(4);
                    four(line, |at, q| store(&mut steps[at], half, _mm256_or_si256(q, bit(fifth, at, 4))));
                }
                Planes::FourTwo => four(line, |at, q| {
                    let two = _mm256_slli_epi16::<4>(pair(line(4 + at / 4), at % 4));
                    store(&mut steps[at], half, _mm256_or_si256(q, two));
                }),
                Planes::Two => (0..8).for_each(|at| store(&mut steps[at], half, pair(line(at / 4), at % 4))),
                Planes::TwoOne => (0..8).for_each(|at| {
                    let q = pair(line(at / 4), at % 4);
                    store(&mut steps[at], half, _mm256_or_si256(q, bit(line(2), at, 2)));
                }),
            }
        }
    }
}

/// Hands the eight steps in four lines of four-bit numbers to `put`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn four(line: impl Fn(usize) -> __m256i, mut put: impl FnMut(usize, __m256i)) {
    let mask = _mm256_set1_epi8(15);
    for at in 0..4 {
        let line = line(at);
        put(2 * at, _mm256_and_si256(line, mask));
        put(2 * at + 1, _mm256_and_si256(_mm256_srli_epi16::<4>(line), mask));
    }
}

/// Returns the two bits of step `at` of four in each byte.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn pair(line: __m256i, at: usize) -> __m256i {
    let count = _mm_cvtsi32_si128(2 * at as i32);
    _mm256_and_si256(_mm256_srl_epi16(line, count), _mm256_set1_epi8(3))
}

/// Returns the bit of step `at` of eight in each byte, moved to bit `to`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn bit(line: __m256i, at: usize, to: i32) -> __m256i {
    let down = _mm_cvtsi32_si128(at as i32);
    let up = _mm_cvtsi32_si128(to);
    _mm256_sll_epi16(_mm256_and_si256(_mm256_srl_epi16(line, down), _mm256_set1_epi8(1)), up)
}

/// Writes the scales and minima of a block of 256 as the products take them.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn take_scales(kind: Kind, layout: &Layout, block: &[u8], chunk: &mut Chunk) {
    let low = _mm256_set1_epi32(0xffff);
    let both = |even, odd| _mm256_or_si256(_mm256_and_si256(even, low), _mm256_slli_epi32::<16>(odd));
    let scales = block[layout.scales..].as_chunks::<TILE>().0;
    let mins = block[layout.mins..].as_chunks::<TILE>().0;
    let zero = _mm256_set1_epi32(kind.zero());
    for half in 0..2 {
        for (group, out) in chunk.scales.iter_mut().take(kind.groups()).enumerate() {
            let scale = signed_bytes(&scales[group], half);
            store_i32(out, half, both(scale, scale));
        }
        let min = |group: usize| {
            if kind.has_min() {
                unsigned_bytes(&mins[group], half)
            } else {
                _mm256_mullo_epi32(signed_bytes(&scales[group], half), zero)
            }
        };
        for (pair, out) in chunk.mins.iter_mut().take(kind.groups() / 2).enumerate() {
            store_i32(out, half, both(min(2 * pair), min(2 * pair + 1)));
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn signed_bytes(lanes: &[u8; TILE], half: usize) -> __m256i {
    _mm256_cvtepi8_epi32(eight_bytes(lanes, half))
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn unsigned_bytes(lanes: &[u8; TILE], half: usize) -> __m256i {
    _mm256_cvtepu8_epi32(eight_bytes(lanes, half))
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn eight_bytes(lanes: &[u8; TILE], half: usize) -> __m128i {
    _mm_cvtsi64_si128(i64::from_le_bytes(lanes.as_chunks::<8>().0[half]))
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn store_i32(lanes: &mut [i32; TILE], half: usize, value: __m256i) {
    let lanes = &mut lanes.as_chunks_mut::<8>().0[half];
    // SAFETY: eight numbers are there, and need no alignment.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), value) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load(step: &Step, half: usize) -> __m256i {
    let bytes = &step.as_chunks::<32>().0[half];
    // SAFETY: 32 bytes are there, and need no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn store(step: &mut Step, half: usize, value: __m256i) {
    let bytes = &mut step.as_chunks_mut::<32>().0[half];
    // SAFETY: 32 bytes are there, and need no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), value) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load_i32(lanes: &[i32; TILE], half: usize) -> __m256i {
    let lanes = &lanes.as_chunks::<8>().0[half];
    // SAFETY: eight numbers are there, and need no alignment.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load_f32(lanes: &[f32; TILE], half: usize) -> __m256 {
    let lanes = &lanes.as_chunks::<8>().0[half];
    // SAFETY: eight numbers are there.
    unsafe { _mm256_loadu_ps(lanes.as_ptr()) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn store_f32(lanes: &mut [f32; TILE], half: usize, value: __m256) {
    let lanes = &mut lanes.as_chunks_mut::<8>().0[half];
    // SAFETY: eight numbers are there.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), value) }
}

/// Reads eight `f16` at the beginning of a block: the scales of eight rows.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn halves(block: &[u8], half: usize) -> __m256 {
    let bytes: &[u8; 16] = &block.as_chunks::<16>().0[half];
    // SAFETY: 16 bytes are there, and need no alignment.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}
