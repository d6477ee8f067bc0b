//! What is done to single rows: normalisation, rotation, activation.

use crate::{
    Isa,
    simd::{LANES, Math, Op, Simd},
};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// `x * sigmoid(x)`.
    Silu,
    /// `x * Φ(x)` by the error function.
    Gelu,
    /// `x * Φ(x)` by its tanh approximation.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// The hyperbolic tangent.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `x * sigmoid(slope * x)` with `x` at most `limit`; what it is multiplied with is cut to `limit` on both sides, and
    /// one is added.
    ClampedSwish {
        /// How steep the sigmoid is.
        slope: f32,
        /// Where numbers are cut.
        limit: f32,
    },
}

/// Divides a row by the root of its mean square, and multiplies with `weight`.
///
/// Source: Zhang and Sennrich 2019, <https://arxiv.org/abs/1910.07467>.
///
/// # Panics
/// If `weight` is not as long as the row.
pub fn rms_norm(row: &mut [f32], weight: &[f32], eps: f32, isa: Isa) {
    assert_eq!(row.len(), weight.len(), "a weight for each number");
    isa.run(RmsNorm { row, weight, eps });
}

/// Takes the mean from a row, divides by the standard deviation, multiplies with `weight` and adds `bias`.
///
/// Source: Ba et al. 2016, <https://arxiv.org/abs/1607.06450>.
///
/// # Panics
/// If `weight` or `bias` is not as long as the row.
pub fn layer_norm(row: &mut [f32], weight: &[f32], bias: &[f32], eps: f32, isa: Isa) {
    assert!(row.len() == weight.len() && row.len() == bias.len(), "weight and bias for each number");
    isa.run(LayerNorm { row, weight, bias, eps });
}

/// Turns pairs `i` and `i + pairs` of a head's first numbers by angles given as cosines and sines.
///
/// # Panics
/// If there are not as many numbers as the pairs need.
pub fn rotate_halves(head: &mut [f32], cos: &[f32], sin: &[f32], isa: Isa) {
    isa.run(RotateHalves { head, cos, sin });
}

/// Turns pairs `2i` and `2i + 1`.
///
/// # Panics
/// As [`rotate_halves`].
pub fn rotate_pairs(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let pairs = head[..2 * cos.len()].as_chunks_mut::<2>().0;
    for (pair, (cos, sin)) in pairs.iter_mut().zip(cos.iter().zip(sin)) {
        let [a, b] = *pair;
        *pair = [a * cos - b * sin, b * cos + a * sin];
    }
}

/// Applies a function to every number.
pub fn apply(function: Function, row: &mut [f32], isa: Isa) {
    isa.run(Apply { function, row, by: None });
}

/// Applies a function to every number, and multiplies with `by`.
///
/// # Panics
/// If `by` is not as long as the row.
pub fn gate(function: Function, row: &mut [f32], by: &[f32], isa: Isa) {
    assert_eq!(row.len(), by.len(), "two rows of one length");
    isa.run(Apply { function, row, by: Some(by) });
}

/// Adds `other * scale` to a row.
///
/// # Panics
/// If `other` is not as long as the row.
pub fn add_scaled(row: &mut [f32], other: &[f32], scale: f32) {
    assert_eq!(row.len(), other.len(), "two rows of one length");
    // The product is rounded on its own, so that a scale of one changes nothing.
    row.iter_mut().zip(other).for_each(|(row, other)| *row += other * scale);
}

/// Does something with sixteen numbers after another, and with those of a second row beside them; the last ones are
/// filled up with zeros, and cut again. A macro, since a closure would be compiled without the set's instructions.
macro_rules! each {
    ($row:expr, |$v:ident| $work:expr) => {
        each!($row, &[], |$v, _other| $work)
    };
    ($row:expr, $other:expr, |$v:ident, $beside:ident| $work:expr) => {{
        let (whole, rest) = $row.as_chunks_mut::<LANES>();
        let (others, last): (&[[f32; LANES]], &[f32]) = $other.as_chunks::<LANES>();
        for (at, $v) in whole.iter_mut().enumerate() {
            let $beside = others.get(at).unwrap_or(&ZEROS);
            $work;
        }
        if !rest.is_empty() {
            let (mut padded, mut beside) = (ZEROS, ZEROS);
            padded[..rest.len()].copy_from_slice(rest);
            beside[..last.len()].copy_from_slice(last);
            let ($v, $beside) = (&mut padded, &beside);
            $work;
            rest.copy_from_slice(&padded[..rest.len()]);
        }
    }};
}

const ZEROS: [f32; LANES] = [0.0; LANES];

struct RmsNorm<'a> {
    row: &'a mut [f32],
    weight: &'a [f32],
    eps: f32,
}

impl Op for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut sum = simd.splat(0.0);
        each!(self.row, |v| {
            let v = simd.load(v);
            sum = simd.fma(v, v, sum);
        });
        let mean = simd.sum(sum) / self.row.len() as f32;
        let factor = simd.splat(1.0 / (mean + self.eps).sqrt());
        each!(self.row, self.weight, |v, weight| {
            let scaled = simd.mul(simd.mul(simd.load(v), factor), simd.load(weight));
            simd.store(scaled, v);
        });
    }
}

struct LayerNorm<'a> {
    row: &'a mut [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
}

impl Op for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let len = self.row.len() as f32;
        let mut sum = simd.splat(0.0);
        each!(self.row, |v| sum = simd.add(sum, simd.load(v)));
        let mean = simd.sum(sum) / len;
        // The distance first, and then its square: a large mean would drown a small deviation.
        self.row.iter_mut().for_each(|number| *number -= mean);
        let mut sum = simd.splat(0.0);
        each!(self.row, |v| {
            let v = simd.load(v);
            sum = simd.fma(v, v, sum);
        });
        let factor = 1.0 / (simd.sum(sum) / len + self.eps).sqrt();
        for (number, (weight, bias)) in self.row.iter_mut().zip(self.weight.iter().zip(self.bias)) {
            *number = *number * factor * weight + bias;
        }
    }
}

struct RotateHalves<'a> {
    head: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
}

impl Op for RotateHalves<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        let pairs = self.cos.len();
        let (low, high) = self.head[..2 * pairs].split_at_mut(pairs);
        let angles = self.cos.iter().zip(self.sin);
        for ((low, high), (cos, sin)) in low.iter_mut().zip(high).zip(angles) {
            (*low, *high) = (*low * cos - *high * sin, *high * cos + *low * sin);
        }
    }
}

struct Apply<'a> {
    function: Function,
    row: &'a mut [f32],
    by: Option<&'a [f32]>,
}

impl Op for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { function, row, by } = self;
        match function {
            Function::Silu => each!(row, |v| {
                let x = simd.load(v);
                simd.store(simd.mul(x, simd.sigmoid(x)), v);
            }),
            Function::Gelu => each!(row, |v| {
                let x = simd.load(v);
                let erf = simd.erf(simd.mul(x, simd.splat(std::f32::consts::FRAC_1_SQRT_2)));
                let half = simd.mul(x, simd.splat(0.5));
                simd.store(simd.fma(half, erf, half), v);
            }),
            Function::GeluTanh => each!(row, |v| {
                let x = simd.load(v);
                let cube = simd.mul(simd.mul(x, x), x);
                let inner = simd.fma(cube, simd.splat(0.044_715), x);
                // The root of two over pi.
                let tanh = simd.tanh(simd.mul(inner, simd.splat(0.797_884_6)));
                let half = simd.mul(x, simd.splat(0.5));
                simd.store(simd.fma(half, tanh, half), v);
            }),
            Function::Relu => each!(row, |v| simd.store(simd.max(simd.splat(0.0), simd.load(v)), v)),
            Function::Tanh => each!(row, |v| simd.store(simd.tanh(simd.load(v)), v)),
            Function::Sigmoid => each!(row, |v| simd.store(simd.sigmoid(simd.load(v)), v)),
            Function::ClampedSwish { slope, limit } => {
                each!(row, |v| {
                    let x = simd.min(simd.load(v), simd.splat(limit));
                    simd.store(simd.mul(x, simd.sigmoid(simd.mul(x, simd.splat(slope)))), v);
                });
                let others = by.into_iter().flatten().map(|by| by.clamp(-limit, limit) + 1.0);
                return row.iter_mut().zip(others).for_each(|(number, by)| *number *= by);
            }
        }
        if let Some(by) = by {
            row.iter_mut().zip(by).for_each(|(number, by)| *number *= by);
        }
    }
}
