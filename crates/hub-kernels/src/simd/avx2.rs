#![expect(unsafe_code, reason = "vectors are loaded from and stored to memory by pointers")]

use std::arch::x86_64::*;

use super::{Dots, DotsOp, LANES, Line, Op, Simd};

/// The proof that this processor has AVX2, FMA and F16C, and AVX-VNNI if so.
#[derive(Clone, Copy)]
pub(crate) struct Avx2<const VNNI: bool>(());

/// Two registers of eight.
#[derive(Clone, Copy)]
pub(crate) struct Sixteen(__m256, __m256);

/// Runs `op` with AVX2. The caller has made sure that it is there.
pub(super) fn run<O: Op>(op: O) -> O::Output {
    debug_assert!(crate::Isa::Avx2.is_here(), "`Isa::checked` comes first");
    // SAFETY: `Isa::checked` found these instructions in this processor.
    unsafe { compiled(op) }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn compiled<O: Op>(op: O) -> O::Output {
    op.run(Avx2::<false>(()))
}

/// Runs `op` with AVX-VNNI. The caller has made sure that it is there.
pub(super) fn run_dots<O: DotsOp>(op: O) {
    debug_assert!(crate::Isa::AvxVnni.is_here(), "`Isa::checked` comes first");
    // SAFETY: `Isa::checked` found these instructions in this processor.
    unsafe { compiled_dots(op) }
}

#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn compiled_dots<O: DotsOp>(op: O) {
    op.run(Avx2::<true>(()));
}

/// Applies an instruction to both halves.
macro_rules! both {
    ($instruction:ident, $($v:expr),+) => {
        // SAFETY: an `Avx2` is the proof that the instruction is there.
        unsafe { Sixteen($instruction($($v.0),+), $instruction($($v.1),+)) }
    };
}

impl<const VNNI: bool> Simd for Avx2<VNNI> {
    type F = Sixteen;

    const IS_WIDE: bool = false;

    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        // SAFETY: asking for memory that is not there does nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Sixteen {
        // SAFETY: an `Avx2` is the proof that the instruction is there.
        unsafe { Sixteen(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Sixteen {
        let [low, high]: [&[_; 8]; 2] = halves(x);
        // SAFETY: eight numbers are there, and an `Avx2` is the proof of the instruction.
        unsafe { Sixteen(_mm256_loadu_ps(low.as_ptr()), _mm256_loadu_ps(high.as_ptr())) }
    }

    #[inline(always)]
    fn store(self, v: Sixteen, out: &mut [f32; LANES]) {
        let (low, high) = out.split_at_mut(8);
        // SAFETY: eight numbers are there, and an `Avx2` is the proof of the instruction.
        unsafe {
            _mm256_storeu_ps(low.as_mut_ptr(), v.0);
            _mm256_storeu_ps(high.as_mut_ptr(), v.1);
        }
    }

    #[inline(always)]
    fn load_half(self, x: &[u16; LANES]) -> Sixteen {
        let [low, high]: [&[_; 8]; 2] = halves(x);
        // SAFETY: 16 bytes are there in each half, and an `Avx2` is the proof of the instructions.
        unsafe {
            Sixteen(
                _mm256_cvtph_ps(_mm_loadu_si128(low.as_ptr().cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(high.as_ptr().cast())),
            )
        }
    }

    #[inline(always)]
    fn load_bf16(self, x: &[u16; LANES]) -> Sixteen {
        let widen = |half: &[u16; 8]| {
            // SAFETY: 16 bytes are there, and an `Avx2` is the proof of the instructions.
            unsafe {
                let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(half.as_ptr().cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
            }
        };
        let [low, high]: [&[_; 8]; 2] = halves(x);
        Sixteen(widen(low), widen(high))
    }

    #[inline(always)]
    fn store_half(self, v: Sixteen, out: &mut [u16; LANES]) {
        let (low, high) = out.split_at_mut(8);
        // SAFETY: 16 bytes are there in each half, and an `Avx2` is the proof of the instructions.
        unsafe {
            _mm_storeu_si128(low.as_mut_ptr().cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v.0));
            _mm_storeu_si128(high.as_mut_ptr().cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v.1));
        }
    }

    #[inline(always)]
    fn load_bytes(self, x: &[i8; LANES]) -> Sixteen {
        // SAFETY: 16 bytes are there, and an `Avx2` is the proof of the instructions.
        unsafe {
            let bytes = _mm_loadu_si128(x.as_ptr().cast());
            let high = _mm_srli_si128::<8>(bytes);
            Sixteen(
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high)),
            )
        }
    }

    #[inline(always)]
    fn store_bytes(self, v: Sixteen, out: &mut [i8; LANES]) {
        // SAFETY: 16 bytes are there, and an `Avx2` is the proof of the instructions.
        unsafe {
            let (low, high) = (_mm256_cvtps_epi32(v.0), _mm256_cvtps_epi32(v.1));
            // Packing works within halves of a register, so the quarters come out as 0 2 1 3.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high));
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
        }
    }

    #[inline(always)]
    fn add(self, a: Sixteen, b: Sixteen) -> Sixteen {
        both!(_mm256_add_ps, a, b)
    }

    #[inline(always)]
    fn sub(self, a: Sixteen, b: Sixteen) -> Sixteen {
        both!(_mm256_sub_ps, a, b)
    }

    #[inline(always)]
    fn mul(self, a: Sixteen, b: Sixteen) -> Sixteen {
        both!(_mm256_mul_ps, a, b)
    }

    #[inline(always)]
    fn div(self, a: Sixteen, b: Sixteen) -> Sixteen {
        both!(_mm256_div_ps, a, b)
    }

    #[inline(always)]
    fn max(self, a: Sixteen, b: Sixteen) -> Sixteen {
        both!(_mm256_max_ps, a, b)
    }

    #[inline(always)]
    fn min(self, a: Sixteen, b: Sixteen) -> Sixteen {
        both!(_mm256_min_ps, a, b)
    }

    #[inline(always)]
    fn abs(self, v: Sixteen) -> Sixteen {
        let sign = self.splat(-0.0);
        both!(_mm256_andnot_ps, sign, v)
    }

    #[inline(always)]
    fn fma(self, a: Sixteen, b: Sixteen, c: Sixteen) -> Sixteen {
        both!(_mm256_fmadd_ps, a, b, c)
    }

    #[inline(always)]
    fn round(self, v: Sixteen) -> Sixteen {
        const TO_EVEN: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: an `Avx2` is the proof that the instruction is there.
        unsafe { Sixteen(_mm256_round_ps::<TO_EVEN>(v.0), _mm256_round_ps::<TO_EVEN>(v.1)) }
    }

    #[inline(always)]
    fn two_to(self, v: Sixteen) -> Sixteen {
        let power = |x: __m256| {
            // SAFETY: an `Avx2` is the proof that the instructions are there.
            unsafe {
                let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(x), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
            }
        };
        Sixteen(power(v.0), power(v.1))
    }

    #[inline(always)]
    fn sum(self, v: Sixteen) -> f32 {
        // SAFETY: an `Avx2` is the proof that the instructions are there.
        unsafe {
            let eight = _mm256_add_ps(v.0, v.1);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn largest(self, v: Sixteen) -> f32 {
        // SAFETY: an `Avx2` is the proof that the instructions are there.
        unsafe {
            let eight = _mm256_max_ps(v.0, v.1);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
}

/// Two registers of 32 bytes.
#[derive(Clone, Copy)]
pub(crate) struct Whole(__m256i, __m256i);

/// Applies an instruction to both halves.
macro_rules! both_whole {
    ($instruction:ident, $($v:expr),+) => {
        // SAFETY: an `Avx2` is the proof that the instruction is there.
        unsafe { Whole($instruction($($v.0),+), $instruction($($v.1),+)) }
    };
}

impl Dots for Avx2<true> {
    type I = Whole;

    #[inline(always)]
    fn load_line(self, line: &Line) -> Whole {
        let [low, high]: [&[_; 32]; 2] = halves(line);
        // SAFETY: 32 bytes are there in each half, and an `Avx2` is the proof of the instruction.
        unsafe { Whole(_mm256_loadu_si256(low.as_ptr().cast()), _mm256_loadu_si256(high.as_ptr().cast())) }
    }

    #[inline(always)]
    fn store_line(self, v: Whole, out: &mut Line) {
        let (low, high) = out.split_at_mut(32);
        // SAFETY: 32 bytes are there in each half, and an `Avx2` is the proof of the instruction.
        unsafe {
            _mm256_storeu_si256(low.as_mut_ptr().cast(), v.0);
            _mm256_storeu_si256(high.as_mut_ptr().cast(), v.1);
        }
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Whole {
        // SAFETY: an `Avx2` is the proof that the instruction is there.
        unsafe { Whole(_mm256_set1_epi32(x), _mm256_set1_epi32(x)) }
    }

    #[inline(always)]
    fn and(self, a: Whole, b: Whole) -> Whole {
        both_whole!(_mm256_and_si256, a, b)
    }

    #[inline(always)]
    fn or(self, a: Whole, b: Whole) -> Whole {
        both_whole!(_mm256_or_si256, a, b)
    }

    #[inline(always)]
    fn xor(self, a: Whole, b: Whole) -> Whole {
        both_whole!(_mm256_xor_si256, a, b)
    }

    #[inline(always)]
    fn shift_left(self, v: Whole, bits: u32) -> Whole {
        // SAFETY: an `Avx2` is the proof that the instructions are there.
        unsafe {
            let bits = _mm_cvtsi32_si128(bits.cast_signed());
            Whole(_mm256_sll_epi32(v.0, bits), _mm256_sll_epi32(v.1, bits))
        }
    }

    #[inline(always)]
    fn shift_right(self, v: Whole, bits: u32) -> Whole {
        // SAFETY: an `Avx2` is the proof that the instructions are there.
        unsafe {
            let bits = _mm_cvtsi32_si128(bits.cast_signed());
            Whole(_mm256_srl_epi32(v.0, bits), _mm256_srl_epi32(v.1, bits))
        }
    }

    #[inline(always)]
    fn add_i32(self, a: Whole, b: Whole) -> Whole {
        both_whole!(_mm256_add_epi32, a, b)
    }

    #[inline(always)]
    fn sub_i32(self, a: Whole, b: Whole) -> Whole {
        both_whole!(_mm256_sub_epi32, a, b)
    }

    #[inline(always)]
    fn mul_i32(self, a: Whole, b: Whole) -> Whole {
        both_whole!(_mm256_mullo_epi32, a, b)
    }

    #[inline(always)]
    fn mul_i16(self, a: Whole, b: Whole) -> Whole {
        both_whole!(_mm256_mullo_epi16, a, b)
    }

    #[inline(always)]
    fn dot_i8(self, sum: Whole, unsigned: Whole, signed: Whole) -> Whole {
        both_whole!(_mm256_dpbusd_avx_epi32, sum, unsigned, signed)
    }

    #[inline(always)]
    fn dot_i16(self, sum: Whole, a: Whole, b: Whole) -> Whole {
        both_whole!(_mm256_dpwssd_avx_epi32, sum, a, b)
    }

    #[inline(always)]
    fn widen_i8(self, x: &[u8; LANES]) -> Whole {
        // SAFETY: 16 bytes are there, and an `Avx2` is the proof of the instructions.
        unsafe {
            let bytes = _mm_loadu_si128(x.as_ptr().cast());
            Whole(_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(bytes)))
        }
    }

    #[inline(always)]
    fn widen_i8_pairs(self, even: &[u8; LANES], odd: &[u8; LANES]) -> Whole {
        // SAFETY: 16 bytes are there in each, and an `Avx2` is the proof of the instructions.
        unsafe {
            let (even, odd) = (_mm_loadu_si128(even.as_ptr().cast()), _mm_loadu_si128(odd.as_ptr().cast()));
            Whole(
                _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(even, odd)),
                _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(even, odd)),
            )
        }
    }

    #[inline(always)]
    fn widen_u8_pairs(self, even: &[u8; LANES], odd: &[u8; LANES]) -> Whole {
        // SAFETY: 16 bytes are there in each, and an `Avx2` is the proof of the instructions.
        unsafe {
            let (even, odd) = (_mm_loadu_si128(even.as_ptr().cast()), _mm_loadu_si128(odd.as_ptr().cast()));
            Whole(
                _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(even, odd)),
                _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(even, odd)),
            )
        }
    }

    #[inline(always)]
    fn to_f32(self, v: Whole) -> Sixteen {
        // SAFETY: an `Avx2` is the proof that the instruction is there.
        unsafe { Sixteen(_mm256_cvtepi32_ps(v.0), _mm256_cvtepi32_ps(v.1)) }
    }

    #[inline(always)]
    fn lookup(self, bytes: Whole, table: &[u8; LANES]) -> Whole {
        // SAFETY: 16 bytes are there, and need no alignment; an `Avx2` is the proof that the instructions are there.
        let table = unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast())) };
        // SAFETY: as above.
        unsafe { Whole(_mm256_shuffle_epi8(table, bytes.0), _mm256_shuffle_epi8(table, bytes.1)) }
    }
}

/// Splits sixteen, or 64, into two halves.
#[inline(always)]
fn halves<T, const ALL: usize, const HALF: usize>(x: &[T; ALL]) -> [&[T; HALF]; 2] {
    const { assert!(2 * HALF == ALL) };
    let [low, high] = x.as_chunks::<HALF>().0 else { unreachable!("two halves") };
    [low, high]
}
