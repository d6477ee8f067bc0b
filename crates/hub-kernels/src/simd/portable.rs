use half::f16;
use wide::{f32x4, i8x16, i16x8, i32x4, u16x8, u32x4};

use super::{Dots, LANES, Line, Simd};

/// Does the same with each four numbers of two.
macro_rules! each_four {
    ($a:expr, $b:expr, |$x:ident, $y:ident| $work:expr) => {{
        let mut all = $a;
        for ($x, $y) in all.iter_mut().zip($b) {
            *$x = {
                let $x = *$x;
                $work
            };
        }
        all
    }};
}

/// Plain Rust.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    type F = [f32x4; 4];

    const IS_WIDE: bool = false;

    #[inline(always)]
    fn prefetch(self, _: *const u8) {}

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [f32x4::splat(x); 4]
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        bytemuck::cast(*x)
    }

    #[inline(always)]
    fn store(self, v: Self::F, out: &mut [f32; LANES]) {
        *out = bytemuck::cast(v);
    }

    #[inline(always)]
    fn load_half(self, x: &[u16; LANES]) -> Self::F {
        bytemuck::cast::<_, [u32x4; 4]>(x.map(u32::from)).map(widen)
    }

    #[inline(always)]
    fn load_bf16(self, x: &[u16; LANES]) -> Self::F {
        bytemuck::cast(x.map(|bits| u32::from(bits) << 16))
    }

    #[inline(always)]
    fn store_half(self, v: Self::F, out: &mut [u16; LANES]) {
        *out = numbers(v).map(|x| f16::from_f32(x).to_bits());
    }

    #[inline(always)]
    fn load_bytes(self, x: &[i8; LANES]) -> Self::F {
        bytemuck::cast(x.map(f32::from))
    }

    #[inline(always)]
    fn store_bytes(self, v: Self::F, out: &mut [i8; LANES]) {
        *out = numbers(self.round(v)).map(|x| x as i8);
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        each_four!(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        each_four!(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        each_four!(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        each_four!(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        each_four!(a, b, |a, b| a.simd_gt(b).bitselect(a, b))
    }

    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        each_four!(a, b, |a, b| a.simd_lt(b).bitselect(a, b))
    }

    #[inline(always)]
    fn abs(self, v: Self::F) -> Self::F {
        v.map(f32x4::abs)
    }

    /// In one rounding where the processor has an instruction for that: a call would be slow.
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        let mut sum = c;
        for (sum, (a, b)) in sum.iter_mut().zip(a.into_iter().zip(b)) {
            *sum = a.mul_add(b, *sum);
        }
        sum
    }

    /// Adding so much leaves no bits for what follows the point. What is larger is whole already.
    #[inline(always)]
    fn round(self, v: Self::F) -> Self::F {
        let much = f32x4::splat(MUCH);
        v.map(|v| v.abs().simd_lt(f32x4::splat(4_194_304.0)).bitselect((v + much) - much, v))
    }

    /// A whole number that so much is added to stands in the last bits.
    #[inline(always)]
    fn two_to(self, v: Self::F) -> Self::F {
        let bits = |v: f32x4| bytemuck::cast::<_, i32x4>(v + f32x4::splat(MUCH));
        let least = i32x4::splat(MUCH.to_bits().cast_signed() - 127);
        v.map(|v| bytemuck::cast((bits(v) - least) << 23_u32))
    }

    #[inline(always)]
    fn sum(self, v: Self::F) -> f32 {
        let [a, b, c, d] = v;
        let [a, b, c, d] = ((a + c) + (b + d)).to_array();
        (a + c) + (b + d)
    }

    #[inline(always)]
    fn largest(self, v: Self::F) -> f32 {
        numbers(v).into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
}

/// One and a half times two to the power of 23: whole numbers around it are as far apart as `f32` are.
const MUCH: f32 = 12_582_912.0;

#[inline(always)]
fn numbers(v: [f32x4; 4]) -> [f32; LANES] {
    bytemuck::cast(v)
}

/// Returns the numbers that `f16` are, without a branch: the exponent moves by a product, which subnormal numbers need too,
/// and what is infinite or no number gets the exponent that says so.
#[inline(always)]
fn widen(half: u32x4) -> f32x4 {
    /// Two to the power of what the exponents of both forms are apart by.
    const APART: f32 = f32::from_bits((127 + 127 - 15) << 23);
    let size: f32x4 = bytemuck::cast((half & u32x4::splat(0x7fff)) << 13_u32);
    let size: u32x4 = bytemuck::cast(size * f32x4::splat(APART));
    let most = u32x4::splat(0x7c00);
    let special = (half & most).simd_eq(most) & u32x4::splat(0x7f80_0000);
    bytemuck::cast(size | special | (half & u32x4::splat(0x8000)) << 16_u32)
}

/// Whole numbers four at a time, in the vectors that every processor of a kind has: compilers do not find those of products
/// of bytes by themselves.
impl Dots for Portable {
    type I = [i32x4; 4];

    #[inline(always)]
    fn load_line(self, line: &Line) -> Self::I {
        bytemuck::cast(*line)
    }

    #[inline(always)]
    fn store_line(self, v: Self::I, out: &mut Line) {
        *out = bytemuck::cast(v);
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I {
        [i32x4::splat(x); 4]
    }

    #[inline(always)]
    fn and(self, a: Self::I, b: Self::I) -> Self::I {
        each_four!(a, b, |a, b| a & b)
    }

    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        each_four!(a, b, |a, b| a | b)
    }

    #[inline(always)]
    fn xor(self, a: Self::I, b: Self::I) -> Self::I {
        each_four!(a, b, |a, b| a ^ b)
    }

    #[inline(always)]
    fn shift_left(self, v: Self::I, bits: u32) -> Self::I {
        each_four!(v, v, |v, _v| v << bits)
    }

    #[inline(always)]
    fn shift_right(self, v: Self::I, bits: u32) -> Self::I {
        each_four!(v, v, |v, _v| bytemuck::cast(bytemuck::cast::<_, u32x4>(v) >> bits))
    }

    #[inline(always)]
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I {
        each_four!(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub_i32(self, a: Self::I, b: Self::I) -> Self::I {
        each_four!(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul_i32(self, a: Self::I, b: Self::I) -> Self::I {
        each_four!(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn mul_i16(self, a: Self::I, b: Self::I) -> Self::I {
        each_four!(a, b, |a, b| bytemuck::cast(words(a) * words(b)))
    }

    #[inline(always)]
    fn dot_i8(self, sum: Self::I, unsigned: Self::I, signed: Self::I) -> Self::I {
        // Every other byte as a number of 16 bits: products of those are what most processors add in pairs.
        let mut sum = sum;
        for (sum, (unsigned, signed)) in sum.iter_mut().zip(unsigned.into_iter().zip(signed)) {
            let (even, odd) =
                (unsigned & i32x4::splat(0x00ff_00ff), bytemuck::cast::<_, u16x8>(unsigned) >> 8);
            let signed = words(signed);
            *sum += words(even).dot((signed << 8) >> 8) + bytemuck::cast::<_, i16x8>(odd).dot(signed >> 8);
        }
        sum
    }

    #[inline(always)]
    fn dot_i16(self, sum: Self::I, a: Self::I, b: Self::I) -> Self::I {
        let products = each_four!(a, b, |a, b| words(a).dot(words(b)));
        self.add_i32(sum, products)
    }

    #[inline(always)]
    fn widen_i8(self, x: &[u8; LANES]) -> Self::I {
        bytemuck::cast(x.map(|x| i32::from(x.cast_signed())))
    }

    #[inline(always)]
    fn widen_i8_pairs(self, even: &[u8; LANES], odd: &[u8; LANES]) -> Self::I {
        let pair = |at: usize| [i16::from(even[at].cast_signed()), i16::from(odd[at].cast_signed())];
        bytemuck::cast(std::array::from_fn::<_, LANES, _>(pair))
    }

    #[inline(always)]
    fn widen_u8_pairs(self, even: &[u8; LANES], odd: &[u8; LANES]) -> Self::I {
        let pair = |at: usize| [i16::from(even[at]), i16::from(odd[at])];
        bytemuck::cast(std::array::from_fn::<_, LANES, _>(pair))
    }

    #[inline(always)]
    fn to_f32(self, v: Self::I) -> Self::F {
        bytemuck::cast(v.map(i32x4::round_float))
    }

    #[inline(always)]
    fn lookup(self, bytes: Self::I, table: &[u8; LANES]) -> Self::I {
        let table: i8x16 = bytemuck::cast(*table);
        bytes.map(|bytes| bytemuck::cast(table.shuffle_zeroing(bytemuck::cast(bytes))))
    }
}

/// Sees numbers of 32 bits as twice as many of 16.
#[inline(always)]
fn words(v: i32x4) -> i16x8 {
    bytemuck::cast(v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_widened() {
        for bits in 0..=u16::MAX {
            let found = widen(u32x4::splat(u32::from(bits))).to_array()[0];
            let expected = f16::from_bits(bits).to_f32();
            assert!(
                found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
                "{bits:#x}"
            );
        }
    }

    #[test]
    fn ties_are_rounded_to_even_and_powers_are_those_of_two() {
        for whole in -126..=127 {
            let whole = whole as f32;
            assert_eq!(numbers(Portable.two_to(Portable.splat(whole)))[0], whole.exp2());
            for x in [whole, whole + 0.5, whole + 0.499, whole - 0.501, whole * 1e7] {
                assert_eq!(numbers(Portable.round(Portable.splat(x)))[0], x.round_ties_even());
            }
        }
        assert!(numbers(Portable.round(Portable.splat(f32::NAN)))[0].is_nan());
    }
}
