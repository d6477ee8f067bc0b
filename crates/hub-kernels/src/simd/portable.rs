use half::{bf16, f16};

use super::{LANES, Simd};

/// Plain Rust.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    type F = [f32; LANES];

    const IS_WIDE: bool = false;

    #[inline(always)]
    fn ask(self, _: *const u8) {}

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        *x
    }

    #[inline(always)]
    fn store(self, v: Self::F, out: &mut [f32; LANES]) {
        *out = v;
    }

    #[inline(always)]
    fn load_half(self, x: &[u16; LANES]) -> Self::F {
        x.map(|bits| f16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn load_bf16(self, x: &[u16; LANES]) -> Self::F {
        x.map(|bits| bf16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn store_half(self, v: Self::F, out: &mut [u16; LANES]) {
        *out = v.map(|x| f16::from_f32(x).to_bits());
    }

    #[inline(always)]
    fn load_bytes(self, x: &[i8; LANES]) -> Self::F {
        x.map(f32::from)
    }

    #[inline(always)]
    fn store_bytes(self, v: Self::F, out: &mut [i8; LANES]) {
        *out = v.map(|x| x.round_ties_even() as i8);
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        each(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        each(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        each(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        each(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        each(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        each(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn abs(self, v: Self::F) -> Self::F {
        v.map(f32::abs)
    }

    /// Rounds twice: without an instruction of its own, a fused product is a slow call.
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        let mut sum = c;
        for (sum, (a, b)) in sum.iter_mut().zip(a.iter().zip(&b)) {
            *sum += a * b;
        }
        sum
    }

    #[inline(always)]
    fn round(self, v: Self::F) -> Self::F {
        v.map(f32::round_ties_even)
    }

    #[inline(always)]
    fn two_to(self, v: Self::F) -> Self::F {
        v.map(|x| f32::from_bits(((x as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    fn sum(self, v: Self::F) -> f32 {
        let mut v = v;
        for half in [8, 4, 2, 1] {
            for at in 0..half {
                v[at] += v[at + half];
            }
        }
        v[0]
    }

    #[inline(always)]
    fn largest(self, v: Self::F) -> f32 {
        v.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
}

#[inline(always)]
fn each(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut out = a;
    for (out, b) in out.iter_mut().zip(b) {
        *out = f(*out, b);
    }
    out
}
