use std::ops::Range;

use hub_nn::{Isa, ops};

/// The scores of a vocabulary, and what it takes to weigh them by their probability relative to the likeliest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Softmax<'a> {
    pub(super) scores: &'a [f32],
    /// The largest of them.
    pub(super) max: f32,
    /// Over 0.
    pub(super) temperature: f32,
    pub(super) isa: Isa,
}

impl Softmax<'_> {
    /// How many scores each of [`sums`](Self::sums) covers.
    pub(super) const PART: usize = ops::SCORES;

    /// Weighs one score.
    pub(super) fn weigh(&self, score: f32) -> f32 {
        // Infinite scores are equally likely, and their difference is not a number.
        if score == self.max { 1.0 } else { ((score - self.max) / self.temperature).exp() }
    }

    /// Fills `weights` with those of some scores.
    pub(super) fn weights(&self, range: Range<usize>, weights: &mut Vec<f32>) {
        weights.clear();
        weights.extend_from_slice(&self.scores[range]);
        if self.max.is_finite() {
            ops::softmax_weights(weights, self.max, self.temperature, self.isa);
        } else {
            weights.iter_mut().for_each(|score| *score = self.weigh(*score));
        }
    }

    /// Fills `sums` with the weights of each part together, and returns those of all.
    pub(super) fn sums(&self, sums: &mut Vec<f32>) -> f64 {
        if self.max.is_finite() {
            ops::softmax_sums(self.scores, self.max, self.temperature, sums, self.isa);
        } else {
            let parts = self.scores.chunks(Self::PART);
            sums.clear();
            sums.extend(parts.map(|part| part.iter().map(|score| self.weigh(*score)).sum::<f32>()));
        }
        sums.iter().map(|sum| f64::from(*sum)).sum()
    }
}
