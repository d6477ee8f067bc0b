//! Sixteen numbers side by side, whatever the instructions are called.
//!
//! What works on floating-point numbers is written once, generic over [`Simd`], and compiled for each set of
//! instructions. A value of a set's type is the proof that the processor has it: only [`Isa::run`] makes one.
//!
//! Everything on the way from `run` to the instructions is inlined into one function that is compiled for the set, so
//! [`Op::run`] and what it calls in its loops are `#[inline(always)]`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod math;
mod portable;

pub(crate) use math::Math;
pub(crate) use portable::Portable;

use crate::{Isa, packed::STEP};

/// How many numbers lie side by side.
pub(crate) const LANES: usize = 16;

/// The instructions of one set, on sixteen `f32` at a time.
pub(crate) trait Simd: Copy {
    /// Sixteen numbers.
    type F: Copy;

    /// Whether one register holds them all, of which there are then 32.
    const IS_WIDE: bool;

    /// Asks for a line of the cache, wherever that is.
    fn prefetch(self, address: *const u8);
    fn splat(self, x: f32) -> Self::F;
    fn load(self, x: &[f32; LANES]) -> Self::F;
    fn store(self, v: Self::F, out: &mut [f32; LANES]);
    /// Loads `f16`.
    fn load_half(self, x: &[u16; LANES]) -> Self::F;
    /// Loads `bf16`.
    fn load_bf16(self, x: &[u16; LANES]) -> Self::F;
    /// Rounds to `f16`, ties to even.
    fn store_half(self, v: Self::F, out: &mut [u16; LANES]);
    /// Loads whole numbers of a byte.
    fn load_bytes(self, x: &[i8; LANES]) -> Self::F;
    /// Rounds to whole numbers, ties to even, that fit a byte.
    fn store_bytes(self, v: Self::F, out: &mut [i8; LANES]);
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// Returns the larger of two, and `b` if either is not a number.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// Returns the smaller of two, and `b` if either is not a number.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    fn abs(self, v: Self::F) -> Self::F;
    /// Returns `a * b + c`.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// Rounds to whole numbers, ties to even.
    fn round(self, v: Self::F) -> Self::F;
    /// Returns two to the power of whole numbers from -126 to 127.
    fn two_to(self, v: Self::F) -> Self::F;
    /// Adds all sixteen, in halves: the same order in every set.
    fn sum(self, v: Self::F) -> f32;
    /// Returns the largest of the sixteen.
    fn largest(self, v: Self::F) -> f32;
}

/// Four columns of all 16 rows, a byte each; or the bits of several such.
pub(crate) type Line = [u8; STEP];

/// The instructions of a set that multiplies bytes and adds the products in 32 bits, on 64 bytes at a time.
pub(crate) trait Dots: Simd {
    /// 64 bytes; or sixteen whole numbers of 32 bits.
    type I: Copy;

    fn load_line(self, line: &Line) -> Self::I;
    fn store_line(self, v: Self::I, out: &mut Line);
    /// Sixteen times the same 32 bits.
    fn splat_i32(self, x: i32) -> Self::I;
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    fn xor(self, a: Self::I, b: Self::I) -> Self::I;
    /// Shifts numbers of 32 bits.
    fn shift_left(self, v: Self::I, bits: u32) -> Self::I;
    /// Shifts numbers of 32 bits; zeros follow.
    fn shift_right(self, v: Self::I, bits: u32) -> Self::I;
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I;
    fn sub_i32(self, a: Self::I, b: Self::I) -> Self::I;
    fn mul_i32(self, a: Self::I, b: Self::I) -> Self::I;
    /// Multiplies numbers of 16 bits.
    fn mul_i16(self, a: Self::I, b: Self::I) -> Self::I;
    /// Adds the products of four bytes to each number of `sum`.
    fn dot_i8(self, sum: Self::I, unsigned: Self::I, signed: Self::I) -> Self::I;
    /// Adds the products of two signed numbers of 16 bits to each number of `sum`.
    fn dot_i16(self, sum: Self::I, a: Self::I, b: Self::I) -> Self::I;
    /// Widens signed bytes.
    fn widen_i8(self, x: &[u8; LANES]) -> Self::I;
    /// Widens signed bytes to 16 bits, two side by side.
    fn widen_i8_pairs(self, even: &[u8; LANES], odd: &[u8; LANES]) -> Self::I;
    /// Widens unsigned bytes to 16 bits, two side by side.
    fn widen_u8_pairs(self, even: &[u8; LANES], odd: &[u8; LANES]) -> Self::I;
    fn to_f32(self, v: Self::I) -> Self::F;
    /// Replaces bytes below 16 by those of the table.
    fn lookup(self, bytes: Self::I, table: &[u8; 16]) -> Self::I;
}

/// A computation that is compiled for every set of instructions that has [`Dots`].
pub(crate) trait DotsOp {
    /// Must be `#[inline(always)]`.
    fn run<S: Dots>(self, simd: S);
}

/// A computation that is compiled for every set of instructions.
pub(crate) trait Op {
    type Output;

    /// Must be `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

impl Isa {
    /// Runs `op` with these instructions, or plain ones if the processor lacks them.
    pub(crate) fn run<O: Op>(self, op: O) -> O::Output {
        match self.vectors().checked() {
            Self::Scalar | Self::Portable => op.run(Portable),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 | Self::AvxVnni => avx2::run(op),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Amx => avx512::run(op),
            #[cfg(not(target_arch = "x86_64"))]
            _ => op.run(Portable),
        }
    }

    /// Runs `op` with these instructions, or plain ones if the processor lacks them or they have no [`Dots`].
    pub(crate) fn run_dots<O: DotsOp>(self, op: O) {
        match self.vectors().checked() {
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => avx2::run_dots(op),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Amx => avx512::run_dots(op),
            _ => op.run(Portable),
        }
    }
}
