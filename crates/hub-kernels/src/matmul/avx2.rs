//! AVX2: `vpmaddubsw` multiplies unsigned weights with signed activations and adds pairs into 16 bits; as many such
//! sums as cannot overflow are added up before `vpmaddwd` widens them, multiplying with the group's scale on the way.
//! Eight rows fill a vector, so a tile has two halves.
//!
//! For several tokens a block is taken apart into bytes in the first-level cache, and multiplied from there with four
//! tokens at a time; for a single one its numbers go straight into the product.
#![expect(unsafe_code, reason = "vectors are loaded from and stored to memory by pointers")]

use std::arch::x86_64::*;

use super::{
    Sums,
    inputs::{CHUNK, Inputs, ahead, kind_of},
};
use crate::{
    Activations, Kind, Packed, TILE,
    activations::PANEL,
    kind::Planes,
    packed::{Layout, STEP},
    simd::Line,
};

/// Adds what a tile gives for the tokens from `first` on.
pub(super) fn add(weights: &Packed, tile: usize, x: &Activations, first: usize, sums: &mut Sums) {
    /// Calls the code of one kind.
    macro_rules! kinds {
        ($($kind:ident)*) => {
            match weights.kind() {
                // SAFETY: `Isa::checked` found these instructions in this processor.
                $(Kind::$kind => unsafe { add_kind::<{ Kind::$kind as usize }>(weights, tile, x, first, sums) },)*
                // Plain numbers go another way.
                Kind::F16 | Kind::BF16 | Kind::F32 => {}
            }
        };
    }
    kinds!(Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2K Q3K Q4K Q5K Q6K IQ2XXS IQ2XS IQ2S IQ3XXS IQ3S IQ4NL IQ4XS MXFP4);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn add_kind<const K: usize>(weights: &Packed, tile: usize, x: &Activations, first: usize, sums: &mut Sums) {
    let tile = weights.tile(tile);
    if x.lanes == 1 {
        if let Some(sums) = sums.first_chunk_mut() {
            few::<K, 1>(tile, x, first, sums);
        }
        return;
    }
    match sums.as_chunks_mut().0 {
        [panel] => few::<K, PANEL>(tile, x, first / PANEL, panel),
        panels => several::<K>(tile, x, first / PANEL, panels),
    }
}

/// Multiplies with as many tokens as lie side by side, straight from the packed numbers.
#[target_feature(enable = "avx2,fma,f16c")]
fn few<const K: usize, const T: usize>(
    tile: &[u8],
    x: &Activations,
    panel: usize,
    sums: &mut [[f32; TILE]; T],
) {
    let kind = const { kind_of(K) };
    let layout = const { Layout::of(kind_of(K)) };
    let ahead = const { ahead(kind_of(K)) };
    let mut all = [[_mm256_setzero_ps(); 2]; T];
    let x = Inputs::of::<K, T>(x, panel);
    for (at, block) in tile.chunks_exact(layout.bytes).enumerate() {
        let x = x.block::<K, T>(at);
        let lines = block[layout.planes..].as_chunks::<STEP>().0;
        let factors = |group: usize, half: usize| scales::<K>(&block[layout.scales..], group, half);
        let number = |unit: usize, step: usize, half: usize| {
            if half == 0 {
                prefetch_ahead::<K>(block, ahead, unit, step);
            }
            number::<K>(lines, unit, step, half)
        };
        let dots = if kind.planes().is_signed() && !kind.is_super() {
            signed::<T>(|step, half| number(0, step, half), x.q)
        } else {
            scaled::<K, T>(number, x.q, factors)
        };
        for half in 0..2 {
            let mins = |pair: usize| mins::<K>(block, pair, half);
            for lane in 0..T {
                all[lane][half] =
                    finish::<K, T>(block, half, &x, lane, dots[half][lane], mins, all[lane][half]);
            }
        }
    }
    for (all, sums) in all.into_iter().zip(sums) {
        store_f32(sums, 0, all[0]);
        store_f32(sums, 1, all[1]);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn several<const K: usize>(tile: &[u8], x: &Activations, first: usize, sums: &mut [[[f32; TILE]; PANEL]]) {
    let kind = const { kind_of(K) };
    let layout = const { Layout::of(kind_of(K)) };
    let mut lines = [[0; STEP]; CHUNK / 4];
    let mut factors = [[[0; 8]; 2]; CHUNK / 16];
    let mut offsets = [[[0; 8]; 2]; CHUNK / 32];
    let blocks = CHUNK / kind.block();
    for (chunk, bytes) in tile.chunks(blocks * layout.bytes).enumerate() {
        // Bytes need no taking apart.
        let packed = bytes.chunks_exact(layout.bytes).filter(|_| kind.planes() != Planes::Eight);
        for (block, lines) in packed.zip(lines.chunks_exact_mut(kind.block() / 4)) {
            unpack_block::<K>(block, blocks * layout.bytes, lines);
        }
        if kind.is_super() {
            for half in 0..2 {
                for (group, out) in factors.iter_mut().take(kind.groups()).enumerate() {
                    store_i32(&mut out[half], scales::<K>(&bytes[layout.scales..], group, half));
                }
                for (pair, out) in offsets.iter_mut().take(kind.groups() / 2).enumerate() {
                    store_i32(&mut out[half], mins::<K>(bytes, pair, half));
                }
            }
        }
        for (panel, sums) in sums.iter_mut().enumerate() {
            let x = Inputs::of::<K, PANEL>(x, first + panel);
            for (at, block) in bytes.chunks_exact(layout.bytes).enumerate() {
                let x = x.block::<K, PANEL>(chunk * blocks + at);
                let lines = &lines[at * kind.block() / 4..][..const { kind_of(K).block() / 4 }];
                let dots = if kind.planes().is_signed() && !kind.is_super() {
                    let is_packed = kind.planes() == Planes::Eight;
                    let lines = if is_packed { block[layout.planes..].as_chunks().0 } else { lines };
                    let number = |step: usize, half: usize| {
                        if is_packed && half == 0 {
                            prefetch_ahead::<K>(block, blocks * layout.bytes, 0, step);
                        }
                        load(&lines[step], half)
                    };
                    signed::<PANEL>(number, x.q)
                } else {
                    let number = |unit: usize, step: usize, half| load(&lines[8 * unit + step], half);
                    scaled::<K, PANEL>(number, x.q, |group, half| load_i32(&factors[group][half]))
                };
                for half in 0..2 {
                    for lane in 0..PANEL {
                        let sum = load_f32(&sums[lane], half);
                        let mins = |pair: usize| load_i32(&offsets[pair][half]);
                        let sum = finish::<K, PANEL>(block, half, &x, lane, dots[half][lane], mins, sum);
                        store_f32(&mut sums[lane], half, sum);
                    }
                }
            }
        }
    }
}

/// Adds a block's whole numbers to the sums of eight rows, with what they are to be multiplied with.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn finish<const K: usize, const T: usize>(
    block: &[u8],
    half: usize,
    x: &Inputs<'_>,
    lane: usize,
    dot: __m256i,
    mins: impl Fn(usize) -> __m256i,
    sum: __m256,
) -> __m256 {
    let kind = const { kind_of(K) };
    let offset = if kind.is_super() {
        let mut offset = _mm256_setzero_si256();
        for pair in 0..kind.groups() / 2 {
            let both = _mm256_set1_epi32(x.sums[pair * T + lane]);
            offset = _mm256_add_epi32(offset, _mm256_madd_epi16(mins(pair), both));
        }
        offset
    } else {
        _mm256_set1_epi32(x.sums[lane])
    };
    let scale = _mm256_set1_ps(x.scales[lane] * kind.unit());
    let d = _mm256_mul_ps(halves(block, half), scale);
    if kind.has_min() {
        let m = _mm256_mul_ps(halves(&block[const { Layout::of(kind_of(K)).m }..], half), scale);
        let sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), d, sum);
        return _mm256_fnmadd_ps(_mm256_cvtepi32_ps(offset), m, sum);
    }
    let offset = match kind.zero() {
        0 => return _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), d, sum),
        zero => _mm256_mullo_epi32(offset, _mm256_set1_epi32(zero)),
    };
    _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(dot, offset)), d, sum)
}

/// Sums up products in a block, each group multiplied with its scale. The sign of signed weights moves to the activation,
/// since one factor must be unsigned.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn scaled<const K: usize, const T: usize>(
    number: impl Fn(usize, usize, usize) -> __m256i,
    q: &[[i8; 4]],
    scale: impl Fn(usize, usize) -> __m256i,
) -> [[__m256i; T]; 2] {
    let kind = const { kind_of(K) };
    let steps = const { steps(kind_of(K)) };
    let zero = [[_mm256_setzero_si256(); T]; 2];
    let mut wide = zero;
    for unit in 0..kind.block() / 32 {
        for part in 0..8 / steps {
            let mut narrow = zero;
            for step in part * steps..(part + 1) * steps {
                let (low, high) = (number(unit, step, 0), number(unit, step, 1));
                let q = &q[(8 * unit + step) * T..(8 * unit + step + 1) * T];
                for lane in 0..T {
                    let q = _mm256_set1_epi32(i32::from_ne_bytes(q[lane].map(i8::cast_unsigned)));
                    for (narrow, weights) in narrow.iter_mut().zip([low, high]) {
                        let products = if kind.planes().is_signed() {
                            _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(q, weights))
                        } else {
                            _mm256_maddubs_epi16(weights, q)
                        };
                        narrow[lane] = _mm256_add_epi16(narrow[lane], products);
                    }
                }
            }
            for half in 0..2 {
                let scale = if kind.is_super() {
                    scale((32 * unit + 4 * part * steps) / kind.group(), half)
                } else {
                    _mm256_set1_epi16(1)
                };
                for lane in 0..T {
                    let products = _mm256_madd_epi16(narrow[half][lane], scale);
                    wide[half][lane] = _mm256_add_epi32(wide[half][lane], products);
                }
            }
        }
    }
    wide
}

/// Sums up products of signed weights: the sign moves to the activation, since one factor must be unsigned.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn signed<const T: usize>(number: impl Fn(usize, usize) -> __m256i, q: &[[i8; 4]]) -> [[__m256i; T]; 2] {
    let mut wide = [[_mm256_setzero_si256(); T]; 2];
    let ones = _mm256_set1_epi16(1);
    for (step, q) in q.chunks_exact(T).enumerate() {
        for (half, wide) in wide.iter_mut().enumerate() {
            let weights = number(step, half);
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

/// How many steps are added up in 16 bits: each adds two products of a weight with 127, and all share a scale.
const fn steps(kind: Kind) -> usize {
    let largest = match kind.planes() {
        Planes::Two => 3,
        Planes::TwoOne => 7,
        Planes::Four => 15,
        Planes::FourOne => 31,
        Planes::FourTwo => 63,
        Planes::Eight | Planes::Table(_) | Planes::None => 127,
    };
    let (fit, group) = (32_767 / (254 * largest), kind.group() / 4);
    let steps = if fit < group { fit } else { group };
    // Steps come in powers of two.
    1 << steps.ilog2()
}

/// Returns the numbers of a step: unit of 32 columns, step of four columns in it, half of the rows.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn number<const K: usize>(lines: &[Line], unit: usize, step: usize, half: usize) -> __m256i {
    let planes = const { kind_of(K).planes() };
    let lines = &lines[unit * planes.bytes() / STEP..(unit + 1) * planes.bytes() / STEP];
    let four = || {
        let line = load(&lines[step / 2], half);
        let line = if step.is_multiple_of(2) { line } else { _mm256_srli_epi16::<4>(line) };
        _mm256_and_si256(line, _mm256_set1_epi8(15))
    };
    // Shifts of 16 bits move bits across bytes; the mask takes away what came from the neighbour.
    let bits = |line: usize, from: usize, mask: i8, to: i32| {
        let down = _mm_cvtsi32_si128(from as i32);
        let bits = _mm256_and_si256(_mm256_srl_epi16(load(&lines[line], half), down), _mm256_set1_epi8(mask));
        _mm256_sll_epi16(bits, _mm_cvtsi32_si128(to))
    };
    match planes {
        Planes::Eight => load(&lines[step], half),
        Planes::Four => four(),
        Planes::Table(table) => {
            // SAFETY: 16 bytes are there, and need no alignment.
            let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), four())
        }
        Planes::FourOne => _mm256_or_si256(four(), bits(4, step, 1, 4)),
        Planes::FourTwo => _mm256_or_si256(four(), bits(4 + step / 4, step % 4 * 2, 3, 4)),
        Planes::Two => bits(step / 4, step % 4 * 2, 3, 0),
        Planes::TwoOne => _mm256_or_si256(bits(step / 4, step % 4 * 2, 3, 0), bits(2, step, 1, 2)),
        Planes::None => _mm256_setzero_si256(),
    }
}

/// Writes the numbers of a block as bytes, step by step, and asks for what lies `ahead`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn unpack_block<const K: usize>(block: &[u8], ahead: usize, out: &mut [Line]) {
    let lines = block[const { Layout::of(kind_of(K)).planes }..].as_chunks().0;
    for (unit, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        for (step, out) in out.iter_mut().enumerate() {
            prefetch_ahead::<K>(block, ahead, unit, step);
            store(out, 0, number::<K>(lines, unit, step, 0));
            store(out, 1, number::<K>(lines, unit, step, 1));
        }
    }
}

/// Returns the scales of a group for eight rows, each twice in 32 bits.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn scales<const K: usize>(bytes: &[u8], group: usize, half: usize) -> __m256i {
    if !const { kind_of(K).is_super() } {
        return _mm256_setzero_si256();
    }
    let eight = eight_bytes(&bytes[group * TILE + 8 * half..]);
    _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(eight, eight))
}

/// Returns the minima of two groups for eight rows in 32 bits each; for kinds without minima their scales.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn mins<const K: usize>(block: &[u8], pair: usize, half: usize) -> __m256i {
    let (kind, layout) = const { (kind_of(K), Layout::of(kind_of(K))) };
    if !kind.is_super() {
        return _mm256_setzero_si256();
    }
    let start = if kind.has_min() { layout.mins } else { layout.scales } + 8 * half;
    let even = eight_bytes(&block[start + 2 * pair * TILE..]);
    let odd = eight_bytes(&block[start + (2 * pair + 1) * TILE..]);
    let both = _mm_unpacklo_epi8(even, odd);
    if kind.has_min() { _mm256_cvtepu8_epi16(both) } else { _mm256_cvtepi8_epi16(both) }
}

/// Asks for the weights that follow those of a unit, one line of the cache a step: so many requests wait at once as the
/// processor can keep, where a whole block's would hold it up.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn prefetch_ahead<const K: usize>(block: &[u8], ahead: usize, unit: usize, step: usize) {
    let each = const { Layout::of(kind_of(K)).bytes / (kind_of(K).block() / 32) };
    if step < each.div_ceil(64) {
        let line = block.as_ptr().wrapping_add(ahead + unit * each + step * 64);
        _mm_prefetch::<_MM_HINT_T0>(line.cast());
    }
}

/// Loads eight bytes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn eight_bytes(bytes: &[u8]) -> __m128i {
    let bytes: [u8; 8] = bytes.first_chunk().copied().unwrap_or_default();
    _mm_cvtsi64_si128(i64::from_le_bytes(bytes))
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load(line: &Line, half: usize) -> __m256i {
    let bytes = &line.as_chunks::<32>().0[half];
    // SAFETY: 32 bytes are there, and need no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn store(line: &mut Line, half: usize, value: __m256i) {
    let bytes = &mut line.as_chunks_mut::<32>().0[half];
    // SAFETY: 32 bytes are there, and need no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), value) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load_i32(lanes: &[i32; 8]) -> __m256i {
    // SAFETY: eight numbers are there, and need no alignment.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn store_i32(lanes: &mut [i32; 8], value: __m256i) {
    // SAFETY: eight numbers are there, and need no alignment.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), value) }
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
