use super::Simd;

/// Functions of sixteen numbers, out of the instructions every set has.
pub(crate) trait Math: Simd {
    /// Returns `e^x`, within 3e-7 of its value; `x` is cut to -87.3 to 88.3. What is not a number stays so.
    ///
    /// Source: the reduction by powers of two with a polynomial of degree six, as in Cephes' `expf`
    /// (<https://www.netlib.org/cephes/>); checked against `f64::exp`.
    #[inline(always)]
    fn exp(self, x: Self::F) -> Self::F {
        let x = self.min(self.splat(88.3), self.max(self.splat(-87.3), x));
        let n = self.round(self.mul(x, self.splat(std::f32::consts::LOG2_E)));
        // Two steps keep the digits that one constant for the logarithm of two would lose.
        let r = self.fma(n, self.splat(-0.693_359_4), x);
        let r = self.fma(n, self.splat(2.121_944_4e-4), r);
        let mut p = self.splat(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
            p = self.fma(p, r, self.splat(c));
        }
        let y = self.add(self.fma(p, self.mul(r, r), r), self.splat(1.0));
        self.mul(y, self.two_to(n))
    }

    /// Returns `1 / (1 + e^-x)`.
    #[inline(always)]
    fn sigmoid(self, x: Self::F) -> Self::F {
        let one = self.splat(1.0);
        let e = self.exp(self.sub(self.splat(0.0), x));
        self.div(one, self.add(one, e))
    }

    /// Returns `tanh(x)`, within 3e-7.
    #[inline(always)]
    fn tanh(self, x: Self::F) -> Self::F {
        let two = self.splat(2.0);
        self.sub(self.mul(two, self.sigmoid(self.mul(two, x))), self.splat(1.0))
    }

    /// Returns the error function, within 5e-7 (of one, not of the value).
    ///
    /// Source: `erfcc` of Press et al., Numerical Recipes, section 6.2 (a Chebyshev fit); checked against a series in
    /// `f64`.
    #[inline(always)]
    fn erf(self, x: Self::F) -> Self::F {
        let (one, size) = (self.splat(1.0), self.abs(x));
        let t = self.div(one, self.fma(self.splat(0.5), size, one));
        let mut p = self.splat(0.170_872_77);
        for c in [
            -0.822_152_23,
            1.488_515_9,
            -1.135_204,
            0.278_868_07,
            -0.186_288_06,
            0.096_784_18,
            0.374_091_96,
            1.000_023_7,
            -1.265_512_2,
        ] {
            p = self.fma(p, t, self.splat(c));
        }
        let erfc = self.mul(t, self.exp(self.sub(p, self.mul(size, size))));
        // The sign is taken from `x`, since `x / |x|` has none at zero.
        let positive = self.sub(one, erfc);
        let huge = self.splat(1e30);
        let sign = self.max(self.min(self.mul(x, huge), one), self.splat(-1.0));
        self.mul(positive, sign)
    }
}

impl<S: Simd> Math for S {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Isa,
        simd::{LANES, Op},
    };

    #[derive(Clone, Copy)]
    enum Function {
        Exp,
        Tanh,
        Erf,
    }

    /// Applies a function to sixteen numbers.
    struct Apply(Function, [f32; LANES]);

    impl Op for Apply {
        type Output = [f32; LANES];

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> [f32; LANES] {
            let x = simd.load(&self.1);
            let y = match self.0 {
                Function::Exp => simd.exp(x),
                Function::Tanh => simd.tanh(x),
                Function::Erf => simd.erf(x),
            };
            let mut out = [0.0; LANES];
            simd.store(y, &mut out);
            out
        }
    }

    /// The Taylor series of the error function.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    /// Compares with `expected` from `-range` to `range`; `bound` is of one, or of the value if that is larger.
    #[track_caller]
    fn check(function: Function, range: f32, expected: impl Fn(f64) -> f64, bound: f64, is_relative: bool) {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_here()) {
            for start in 0..2_000 {
                let x: [f32; LANES] = std::array::from_fn(|lane| {
                    range * ((start * LANES + lane) as f32 / (1_000.0 * LANES as f32) - 1.0)
                });
                for (x, found) in x.into_iter().zip(isa.run(Apply(function, x))) {
                    let expected = expected(f64::from(x));
                    let size = if is_relative { expected.abs() } else { 1.0 };
                    let off = (f64::from(found) - expected).abs() / size;
                    assert!(off <= bound, "{isa}: {x} gives {found}, not {expected}: off by {off}");
                }
            }
        }
    }

    #[test]
    fn functions_are_those_of_f64() {
        check(Function::Exp, 87.0, f64::exp, 3e-7, true);
        check(Function::Tanh, 20.0, f64::tanh, 3e-7, false);
        check(Function::Erf, 3.5, erf, 5e-7, false);
    }
}
