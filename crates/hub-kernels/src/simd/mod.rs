//! Sixteen numbers side by side, whatever the instructions are called.
//!
//! What works on floating-point numbers is written once, generic over [`Simd`], and compiled for each set of
//! instructions. A value of a set's type is the proof that the processor has it: only [`Isa::run`] makes one.
//!
//! Everything on the way from `run` to the instructions is inlined into one function that is compiled for the set, so
//! [`Op::run`] and what it calls in its loops are `#[inline(always)]`.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod math;
mod portable;

pub(crate) use math::Math;
pub(crate) use portable::Portable;

use crate::Isa;

/// How many numbers lie side by side.
pub(crate) const LANES: usize = 16;

/// The instructions of one set, on sixteen `f32` at a time.
pub(crate) trait Simd: Copy {
    /// Sixteen numbers.
    type F: Copy;

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
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
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

/// A computation that is compiled for every set of instructions.
pub(crate) trait Op {
    type Output;

    /// Must be `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

impl Isa {
    /// Runs `op` with these instructions, or plain ones if the processor lacks them.
    pub(crate) fn run<O: Op>(self, op: O) -> O::Output {
        match self.checked() {
            Self::Portable => op.run(Portable),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::run(op),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 => op.run(Portable),
        }
    }
}
