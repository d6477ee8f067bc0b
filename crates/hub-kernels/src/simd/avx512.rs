#![expect(unsafe_code, reason = "vectors are loaded from and stored to memory by pointers")]

use std::arch::x86_64::*;

use super::{Dots, DotsOp, LANES, Line, Op, Simd};

/// The proof that this processor has AVX-512 with VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

/// Runs `op` with AVX-512. The caller has made sure that it is there.
pub(super) fn run<O: Op>(op: O) -> O::Output {
    debug_assert!(crate::Isa::Avx512.is_here(), "`Isa::checked` comes first");
    // SAFETY: `Isa::checked` found these instructions in this processor.
    unsafe { compiled(op) }
}

/// The same for bytes.
pub(super) fn run_dots<O: DotsOp>(op: O) {
    debug_assert!(crate::Isa::Avx512.is_here(), "`Isa::checked` comes first");
    // SAFETY: `Isa::checked` found these instructions in this processor.
    unsafe { compiled_dots(op) }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn compiled<O: Op>(op: O) -> O::Output {
    op.run(Avx512(()))
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn compiled_dots<O: DotsOp>(op: O) {
    op.run(Avx512(()));
}

/// Calls an instruction.
macro_rules! call {
    ($instruction:ident $(::<$constant:tt>)?, $a:expr) => {{
        let a = $a;
        // SAFETY: an `Avx512` is the proof that the instruction is there.
        unsafe { $instruction$(::<$constant>)?(a) }
    }};
    ($instruction:ident $(::<$constant:tt>)?, $a:expr, $b:expr) => {{
        let (a, b) = ($a, $b);
        // SAFETY: an `Avx512` is the proof that the instruction is there.
        unsafe { $instruction$(::<$constant>)?(a, b) }
    }};
    ($instruction:ident, $a:expr, $b:expr, $c:expr) => {{
        let (a, b, c) = ($a, $b, $c);
        // SAFETY: an `Avx512` is the proof that the instruction is there.
        unsafe { $instruction(a, b, c) }
    }};
}

/// Loads from a reference whose length is that of the instruction.
macro_rules! load {
    ($instruction:ident, $x:expr) => {
        // SAFETY: the type of the reference says that so many bytes are there; the instruction asks for no alignment,
        // and an `Avx512` is the proof that it is there.
        unsafe { $instruction($x.as_ptr().cast()) }
    };
}

/// Stores where a reference has room for it.
macro_rules! store {
    ($instruction:ident, $x:expr, $v:expr) => {{
        let v = $v;
        // SAFETY: the type of the reference says that so many bytes are there; the instruction asks for no alignment,
        // and an `Avx512` is the proof that it is there.
        unsafe { $instruction($x.as_mut_ptr().cast(), v) }
    }};
}

impl Simd for Avx512 {
    type F = __m512;

    const IS_WIDE: bool = true;

    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        // SAFETY: asking for memory that is not there does nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        call!(_mm512_set1_ps, x)
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> __m512 {
        load!(_mm512_loadu_ps, x)
    }

    #[inline(always)]
    fn store(self, v: __m512, out: &mut [f32; LANES]) {
        store!(_mm512_storeu_ps, out, v);
    }

    #[inline(always)]
    fn load_half(self, x: &[u16; LANES]) -> __m512 {
        call!(_mm512_cvtph_ps, load!(_mm256_loadu_si256, x))
    }

    #[inline(always)]
    fn load_bf16(self, x: &[u16; LANES]) -> __m512 {
        let wide = call!(_mm512_cvtepu16_epi32, load!(_mm256_loadu_si256, x));
        call!(_mm512_castsi512_ps, call!(_mm512_slli_epi32::<16>, wide))
    }

    #[inline(always)]
    fn store_half(self, v: __m512, out: &mut [u16; LANES]) {
        store!(_mm256_storeu_si256, out, call!(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>, v));
    }

    #[inline(always)]
    fn load_bytes(self, x: &[i8; LANES]) -> __m512 {
        call!(_mm512_cvtepi32_ps, call!(_mm512_cvtepi8_epi32, load!(_mm_loadu_si128, x)))
    }

    #[inline(always)]
    fn store_bytes(self, v: __m512, out: &mut [i8; LANES]) {
        store!(_mm_storeu_si128, out, call!(_mm512_cvtsepi32_epi8, call!(_mm512_cvtps_epi32, v)));
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        call!(_mm512_add_ps, a, b)
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        call!(_mm512_sub_ps, a, b)
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        call!(_mm512_mul_ps, a, b)
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        call!(_mm512_div_ps, a, b)
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        call!(_mm512_max_ps, a, b)
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        call!(_mm512_min_ps, a, b)
    }

    #[inline(always)]
    fn abs(self, v: __m512) -> __m512 {
        call!(_mm512_abs_ps, v)
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        call!(_mm512_fmadd_ps, a, b, c)
    }

    #[inline(always)]
    fn round(self, v: __m512) -> __m512 {
        const TO_EVEN: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        call!(_mm512_roundscale_ps::<TO_EVEN>, v)
    }

    #[inline(always)]
    fn two_to(self, v: __m512) -> __m512 {
        let exponent = call!(_mm512_add_epi32, call!(_mm512_cvtps_epi32, v), call!(_mm512_set1_epi32, 127));
        call!(_mm512_castsi512_ps, call!(_mm512_slli_epi32::<23>, exponent))
    }

    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        let eight =
            call!(_mm256_add_ps, call!(_mm512_castps512_ps256, v), call!(_mm512_extractf32x8_ps::<1>, v));
        let four =
            call!(_mm_add_ps, call!(_mm256_castps256_ps128, eight), call!(_mm256_extractf128_ps::<1>, eight));
        let two = call!(_mm_add_ps, four, call!(_mm_movehl_ps, four, four));
        call!(_mm_cvtss_f32, call!(_mm_add_ss, two, call!(_mm_movehdup_ps, two)))
    }

    #[inline(always)]
    fn largest(self, v: __m512) -> f32 {
        let eight =
            call!(_mm256_max_ps, call!(_mm512_castps512_ps256, v), call!(_mm512_extractf32x8_ps::<1>, v));
        let four =
            call!(_mm_max_ps, call!(_mm256_castps256_ps128, eight), call!(_mm256_extractf128_ps::<1>, eight));
        let two = call!(_mm_max_ps, four, call!(_mm_movehl_ps, four, four));
        call!(_mm_cvtss_f32, call!(_mm_max_ss, two, call!(_mm_movehdup_ps, two)))
    }
}

impl Dots for Avx512 {
    type I = __m512i;

    #[inline(always)]
    fn load_line(self, line: &Line) -> __m512i {
        load!(_mm512_loadu_si512, line)
    }

    #[inline(always)]
    fn store_line(self, v: __m512i, out: &mut Line) {
        store!(_mm512_storeu_si512, out, v);
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m512i {
        call!(_mm512_set1_epi32, x)
    }

    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        call!(_mm512_and_si512, a, b)
    }

    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        call!(_mm512_or_si512, a, b)
    }

    #[inline(always)]
    fn xor(self, a: __m512i, b: __m512i) -> __m512i {
        call!(_mm512_xor_si512, a, b)
    }

    #[inline(always)]
    fn shift_left(self, v: __m512i, bits: u32) -> __m512i {
        call!(_mm512_sll_epi32, v, call!(_mm_cvtsi32_si128, bits.cast_signed()))
    }

    #[inline(always)]
    fn shift_right(self, v: __m512i, bits: u32) -> __m512i {
        call!(_mm512_srl_epi32, v, call!(_mm_cvtsi32_si128, bits.cast_signed()))
    }

    #[inline(always)]
    fn add_i32(self, a: __m512i, b: __m512i) -> __m512i {
        call!(_mm512_add_epi32, a, b)
    }

    #[inline(always)]
    fn sub_i32(self, a: __m512i, b: __m512i) -> __m512i {
        call!(_mm512_sub_epi32, a, b)
    }

    #[inline(always)]
    fn mul_i32(self, a: __m512i, b: __m512i) -> __m512i {
        call!(_mm512_mullo_epi32, a, b)
    }

    #[inline(always)]
    fn mul_i16(self, a: __m512i, b: __m512i) -> __m512i {
        call!(_mm512_mullo_epi16, a, b)
    }

    #[inline(always)]
    fn dot_i8(self, sum: __m512i, unsigned: __m512i, signed: __m512i) -> __m512i {
        call!(_mm512_dpbusd_epi32, sum, unsigned, signed)
    }

    #[inline(always)]
    fn dot_i16(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        call!(_mm512_dpwssd_epi32, sum, a, b)
    }

    #[inline(always)]
    fn widen_i8(self, x: &[u8; LANES]) -> __m512i {
        call!(_mm512_cvtepi8_epi32, load!(_mm_loadu_si128, x))
    }

    #[inline(always)]
    fn widen_i8_pairs(self, even: &[u8; LANES], odd: &[u8; LANES]) -> __m512i {
        call!(_mm512_cvtepi8_epi16, side_by_side(even, odd))
    }

    #[inline(always)]
    fn widen_u8_pairs(self, even: &[u8; LANES], odd: &[u8; LANES]) -> __m512i {
        call!(_mm512_cvtepu8_epi16, side_by_side(even, odd))
    }

    #[inline(always)]
    fn to_f32(self, v: __m512i) -> __m512 {
        call!(_mm512_cvtepi32_ps, v)
    }

    #[inline(always)]
    fn lookup(self, bytes: __m512i, table: &[u8; LANES]) -> __m512i {
        call!(_mm512_shuffle_epi8, call!(_mm512_broadcast_i32x4, load!(_mm_loadu_si128, table)), bytes)
    }
}

/// Puts the bytes of both side by side. Called where AVX-512 is.
#[inline(always)]
fn side_by_side(even: &[u8; LANES], odd: &[u8; LANES]) -> __m256i {
    let (even, odd) = (load!(_mm_loadu_si128, even), load!(_mm_loadu_si128, odd));
    call!(_mm256_set_m128i, call!(_mm_unpackhi_epi8, even, odd), call!(_mm_unpacklo_epi8, even, odd))
}
