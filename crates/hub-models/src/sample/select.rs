//! Finding the best of many scores without sorting them all.

use std::cmp::Ordering;

use super::SampleError;

/// How many running maxima are kept, so that the processor compares several scores at once.
const LANES: usize = 16;

/// The least number of candidates to gather before the worst are thrown out.
const LEAST_ROOM: usize = 64;

/// A token that may be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) id: u32,
    /// Its score, and after the temperature its probability relative to the likeliest.
    pub(super) weight: f32,
}

impl Candidate {
    /// Orders the better first, and of equals the one with the smaller id.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let by_score = other.weight.partial_cmp(&self.weight).unwrap_or(Ordering::Equal);
        by_score.then(self.id.cmp(&other.id))
    }
}

/// Returns the largest score.
///
/// # Errors
/// [`SampleError::NotANumber`] if a score is none, [`SampleError::NothingLeft`] if there is nothing over minus
/// infinity.
pub(super) fn max(scores: &[f32]) -> Result<f32, SampleError> {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut is_nan = false;
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for (max, score) in lanes.iter_mut().zip(chunk) {
            *max = if *score > *max { *score } else { *max };
            is_nan |= score.is_nan();
        }
    }
    is_nan |= rest.iter().any(|score| score.is_nan());
    let max = lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    match max {
        _ if is_nan => Err(SampleError::NotANumber),
        f32::NEG_INFINITY => Err(SampleError::NothingLeft),
        max => Ok(max),
    }
}

/// Fills `best` with the `count` best tokens, best first; fewer if fewer have a score over minus infinity.
///
/// One pass over `scores`. Room for twice `count` is kept, and halved whenever it is full, so that each score costs
/// little more than one comparison with the worst of the best so far.
pub(super) fn largest(scores: &[f32], count: usize, best: &mut Vec<Candidate>) {
    best.clear();
    let room = count.saturating_mul(2).max(LEAST_ROOM);
    let mut floor = f32::NEG_INFINITY;
    for (id, score) in scores.iter().enumerate() {
        // An equal score that comes later has a larger id, and is worse.
        if *score > floor {
            if best.len() == room {
                floor = keep(count, best);
                if *score <= floor {
                    continue;
                }
            }
            best.push(Candidate { id: id as u32, weight: *score });
        }
    }
    keep(count, best);
    best.sort_unstable_by(Candidate::order);
}

/// Throws out all but the `count` best, in any order, and returns the score that a better one must exceed.
fn keep(count: usize, best: &mut Vec<Candidate>) -> f32 {
    if count == 0 || best.len() <= count {
        best.truncate(count);
        return f32::NEG_INFINITY;
    }
    let (_, worst, _) = best.select_nth_unstable_by(count - 1, Candidate::order);
    let floor = worst.weight;
    best.truncate(count);
    floor
}
