//! What drawing from many scores takes: the softmax of a whole vocabulary.

use crate::{
    Isa,
    simd::{LANES, Math, Op, Simd},
};

/// How many scores [`softmax_sums`] adds up together.
pub const SCORES: usize = 1024;

/// Replaces scores by `e^((score - max) / temperature)`: how likely each is, relative to the likeliest.
///
/// `max` is the largest of them, and finite. Within 3e-7 of the value; what is less than 1.2e-38 is 0. Scores that are
/// not numbers give no meaningful weight.
///
/// Checked against `f64::exp`.
pub fn softmax_weights(scores: &mut [f32], max: f32, temperature: f32, isa: Isa) {
    isa.run(Weights { scores, max, scale: 1.0 / temperature });
}

/// Fills `sums` with the sums of [`softmax_weights`] over every [`SCORES`] scores after another, and leaves the scores
/// as they are: a point among all of them is found by its sum first, and then by its score.
///
/// Each score counts bitwise what `softmax_weights` gives; a sum is within 1e-6 of its value.
pub fn softmax_sums(scores: &[f32], max: f32, temperature: f32, sums: &mut Vec<f32>, isa: Isa) {
    sums.clear();
    sums.resize(scores.len().div_ceil(SCORES), 0.0);
    isa.run(Sums { scores, max, scale: 1.0 / temperature, sums });
}

struct Weights<'a> {
    scores: &'a mut [f32],
    max: f32,
    scale: f32,
}

impl Op for Weights<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let softmax = Softmax::new(simd, self.max, self.scale);
        let (whole, rest) = self.scores.as_chunks_mut::<LANES>();
        for scores in whole {
            simd.store(softmax.weigh(simd, simd.load(scores)), scores);
        }
        if !rest.is_empty() {
            let mut padded = padded(rest);
            simd.store(softmax.weigh(simd, simd.load(&padded)), &mut padded);
            rest.copy_from_slice(&padded[..rest.len()]);
        }
    }
}

struct Sums<'a> {
    scores: &'a [f32],
    max: f32,
    scale: f32,
    sums: &'a mut [f32],
}

impl Op for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let softmax = Softmax::new(simd, self.max, self.scale);
        for (scores, sum) in self.scores.chunks(SCORES).zip(self.sums) {
            let (whole, rest) = scores.as_chunks::<LANES>();
            let mut total = simd.splat(0.0);
            for scores in whole {
                total = simd.add(total, softmax.weigh(simd, simd.load(scores)));
            }
            if !rest.is_empty() {
                total = simd.add(total, softmax.weigh(simd, simd.load(&padded(rest))));
            }
            *sum = simd.sum(total);
        }
    }
}

/// What weighs sixteen scores.
#[derive(Clone, Copy)]
struct Softmax<S: Simd> {
    max: S::F,
    scale: S::F,
    /// What the exponential gives for everything that is too small for it.
    least: S::F,
}

impl<S: Simd> Softmax<S> {
    #[inline(always)]
    fn new(simd: S, max: f32, scale: f32) -> Self {
        let least = simd.exp(simd.splat(f32::NEG_INFINITY));
        Self { max: simd.splat(max), scale: simd.splat(scale), least }
    }

    #[inline(always)]
    fn weigh(self, simd: S, scores: S::F) -> S::F {
        let e = simd.exp(simd.mul(simd.sub(scores, self.max), self.scale));
        // Without this, forbidden scores would weigh a little.
        simd.sub(e, self.least)
    }
}

/// Fills sixteen scores up with some that weigh nothing.
#[inline(always)]
fn padded(rest: &[f32]) -> [f32; LANES] {
    let mut padded = [f32::NEG_INFINITY; LANES];
    padded[..rest.len()].copy_from_slice(rest);
    padded
}
