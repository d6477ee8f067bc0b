//! Which tokens stay in the draw, and which of them is drawn.

use super::{
    Sampling,
    select::{Candidate, largest},
    softmax::Softmax,
};

/// How many of the likeliest tokens are looked at first for top-p.
const FIRST_LOOK: usize = 256;

/// Weights of one class differ by an eighth at most: they share their exponent and three bits more.
const CLASS_SHIFT: u32 = 20;

/// How many classes the weights from 0 to 1 have.
const CLASSES: usize = (1.0_f32.to_bits() >> CLASS_SHIFT) as usize + 1;

/// Room for what a draw looks at; kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// What the cuts left, in any order.
    pub(super) candidates: Vec<Candidate>,
    weights: Vec<f32>,
    sums: Vec<f32>,
}

impl Left {
    /// Draws the token that lies at `point`, from 0 to 1, among those that the cuts leave.
    pub(super) fn draw(&mut self, sampling: &Sampling, softmax: Softmax<'_>, point: f64) -> Option<u32> {
        if !sampling.cuts() {
            return self.draw_of_all(softmax, point);
        }
        self.cut(sampling, softmax);
        let point = point * mass(&self.candidates);
        pick(self.candidates.iter().map(|candidate| (candidate.id, candidate.weight)), point)
    }

    /// Finds the part of the vocabulary that the point lies in first, so that no other has to be kept.
    fn draw_of_all(&mut self, softmax: Softmax<'_>, point: f64) -> Option<u32> {
        let point = point * softmax.sums(&mut self.sums);
        let mut begin = 0.0;
        let mut found = None;
        for (part, sum) in self.sums.iter().enumerate().filter(|(_, sum)| **sum > 0.0) {
            found = Some((part, point - begin));
            begin += f64::from(*sum);
            if point < begin {
                break;
            }
        }
        let (part, point) = found?;
        let start = part * Softmax::PART;
        let end = softmax.scores.len().min(start + Softmax::PART);
        softmax.weights(start..end, &mut self.weights);
        pick((start as u32..).zip(self.weights.iter().copied()), point)
    }

    /// Fills the candidates with the tokens that the cuts leave, weighed by their probability relative to the
    /// likeliest.
    pub(super) fn cut(&mut self, sampling: &Sampling, softmax: Softmax<'_>) {
        let least = sampling.min_p.map_or(0.0, |p| p.get());
        match (sampling.top_k, sampling.top_p) {
            (Some(k), top_p) => {
                largest(softmax.scores, k.get() as usize, &mut self.candidates);
                reweigh(&mut self.candidates, softmax);
                if let Some(p) = top_p {
                    let share = f64::from(p.get()) * mass(&self.candidates);
                    self.candidates.truncate(count_of(&self.candidates, share));
                }
            }
            (None, Some(p)) => {
                let share = f64::from(p.get()) * softmax.sums(&mut self.sums);
                self.nucleus(softmax, share);
            }
            (None, None) => {
                softmax.weights(0..softmax.scores.len(), &mut self.weights);
                self.candidates.clear();
                let weighed = self.weights.iter().zip(0..).filter(|(weight, _)| **weight >= least);
                self.candidates.extend(weighed.map(|(weight, id)| Candidate { id, weight: *weight }));
            }
        }
        self.candidates.retain(|candidate| candidate.weight >= least);
    }

    /// Finds the likeliest tokens that together weigh `share`.
    fn nucleus(&mut self, softmax: Softmax<'_>, share: f64) {
        largest(softmax.scores, FIRST_LOOK, &mut self.candidates);
        let is_all = self.candidates.len() < FIRST_LOOK;
        reweigh(&mut self.candidates, softmax);
        let count = count_of(&self.candidates, share);
        if count < self.candidates.len() || is_all {
            self.candidates.truncate(count);
        } else {
            self.wide_nucleus(softmax, share);
        }
    }

    /// As [`nucleus`](Self::nucleus), where it is large: weights are counted by classes, and only the class in which
    /// the share ends is sorted.
    fn wide_nucleus(&mut self, softmax: Softmax<'_>, share: f64) {
        let Self { candidates, weights, .. } = self;
        softmax.weights(0..softmax.scores.len(), weights);
        let mut masses = [0.0_f64; CLASSES];
        for weight in &*weights {
            masses[class(*weight)] += f64::from(*weight);
        }
        let mut before = 0.0;
        let mut last = CLASSES - 1;
        while last > 0 && before + masses[last] < share {
            before += masses[last];
            last -= 1;
        }
        let of_class = |is_in: fn(usize, usize) -> bool| {
            let ids = (0..).zip(weights.iter().zip(softmax.scores));
            ids.filter(move |(_, (weight, _))| **weight > 0.0 && is_in(class(**weight), last))
        };
        candidates.clear();
        candidates.extend(
            of_class(|class, last| class == last).map(|(id, (_, score))| Candidate { id, weight: *score }),
        );
        candidates.sort_unstable_by(Candidate::order);
        reweigh(candidates, softmax);
        candidates.truncate(count_of(candidates, share - before));
        candidates.extend(
            of_class(|class, last| class > last).map(|(id, (weight, _))| Candidate { id, weight: *weight }),
        );
    }
}

/// Returns the class of a weight from 0 to 1: larger for larger ones.
fn class(weight: f32) -> usize {
    ((weight.to_bits() >> CLASS_SHIFT) as usize).min(CLASSES - 1)
}

/// Returns the token in whose stretch of the weights laid end to end `point` lies.
fn pick(weighed: impl Iterator<Item = (u32, f32)>, point: f64) -> Option<u32> {
    let mut end = 0.0;
    let mut last = None;
    for (id, weight) in weighed.filter(|(_, weight)| *weight > 0.0) {
        end += f64::from(weight);
        last = Some(id);
        if point < end {
            break;
        }
    }
    last
}

/// Returns how many of the first candidates it takes to weigh `share`; at least one.
fn count_of(candidates: &[Candidate], share: f64) -> usize {
    let mut before = 0.0;
    for (index, candidate) in candidates.iter().enumerate() {
        if index > 0 && before >= share {
            return index;
        }
        before += f64::from(candidate.weight);
    }
    candidates.len()
}

/// Replaces scores by weights.
fn reweigh(candidates: &mut [Candidate], softmax: Softmax<'_>) {
    for candidate in candidates {
        candidate.weight = softmax.weigh(candidate.weight);
    }
}

fn mass(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| f64::from(candidate.weight)).sum()
}
