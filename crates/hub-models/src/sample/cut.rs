//! Which tokens stay in the draw, and how likely they are.

use super::{
    Sampling,
    select::{Candidate, largest},
};

/// How many of the likeliest tokens are looked at first for top-p.
const FIRST_LOOK: usize = 256;

/// How many times more are looked at where these do not hold enough of the probability.
const NEXT_LOOK: usize = 8;

/// Fills `candidates` with the tokens that the cuts leave, weighed by their probability relative to the likeliest.
///
/// `max` is the largest of `scores`; the temperature is not 0.
pub(super) fn cut(sampling: &Sampling, scores: &[f32], max: f32, candidates: &mut Vec<Candidate>) {
    let weigh = |score: f32| {
        // Infinite scores are equally likely, and their difference is not a number.
        if score == max { 1.0 } else { ((score - max) / sampling.temperature).exp() }
    };
    match (sampling.top_k, sampling.top_p) {
        (Some(k), top_p) => {
            largest(scores, k.get() as usize, candidates);
            reweigh(candidates, weigh);
            if let Some(p) = top_p {
                let share = f64::from(p.get()) * mass(candidates);
                candidates.truncate(count_of(candidates, share));
            }
        }
        (None, Some(p)) => {
            let total: f64 = scores.iter().map(|score| f64::from(weigh(*score))).sum();
            nucleus(scores, f64::from(p.get()) * total, weigh, candidates);
        }
        (None, None) => {
            candidates.clear();
            let weighed = scores.iter().zip(0..).map(|(score, id)| Candidate { id, weight: weigh(*score) });
            candidates.extend(weighed);
        }
    }
    if let Some(p) = sampling.min_p {
        candidates.retain(|candidate| candidate.weight >= p.get());
    }
}

/// Fills `candidates` with the likeliest tokens that together weigh `share`.
fn nucleus(scores: &[f32], share: f64, weigh: impl Fn(f32) -> f32 + Copy, candidates: &mut Vec<Candidate>) {
    let mut look = FIRST_LOOK;
    loop {
        largest(scores, look, candidates);
        let is_all = candidates.len() < look;
        reweigh(candidates, weigh);
        let count = count_of(candidates, share);
        if count < candidates.len() || is_all {
            candidates.truncate(count);
            return;
        }
        look = look.saturating_mul(NEXT_LOOK);
    }
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

fn reweigh(candidates: &mut [Candidate], weigh: impl Fn(f32) -> f32) {
    for candidate in candidates {
        candidate.weight = weigh(candidate.weight);
    }
}

fn mass(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| f64::from(candidate.weight)).sum()
}
