//! Which experts a row goes through.

use crate::spec::{GroupsSpec, RoutingSpec, Scoring};

/// How experts are chosen in a layer.
#[derive(Clone, Debug)]
pub(super) struct Routing {
    pub(super) spec: RoutingSpec,
    /// Added where experts are chosen; one number each, or none at all.
    pub(super) correction: Vec<f32>,
    /// What the weight of each is multiplied with; one number each, or none at all.
    pub(super) expert_scale: Vec<f32>,
}

/// An expert that a row goes through.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Chosen {
    pub(super) expert: usize,
    pub(super) weight: f32,
}

/// Room for what choosing looks at; kept from one row to the next.
#[derive(Debug, Default)]
pub(super) struct RoutingRoom {
    /// What experts are chosen by.
    merits: Vec<f32>,
    is_out: Vec<bool>,
    sorted: Vec<f32>,
    groups: Vec<f32>,
    is_taken: Vec<bool>,
}

impl Routing {
    /// Chooses experts by their scores, and writes them in the order of the experts.
    ///
    /// Of equals the first is chosen. Scores that are not numbers choose some experts, with weights that are none.
    pub(super) fn choose(&self, scores: &mut [f32], room: &mut RoutingRoom, out: &mut [Chosen]) {
        let RoutingSpec { score_scale, scoring, groups, is_normalized, scale, .. } = &self.spec;
        scores.iter_mut().for_each(|score| *score *= score_scale);
        match scoring {
            Scoring::Softmax => softmax(scores),
            Scoring::Sigmoid => scores.iter_mut().for_each(|score| *score = 1.0 / (1.0 + (-*score).exp())),
        }
        let RoutingRoom { merits, is_out, .. } = room;
        merits.clear();
        merits.extend_from_slice(scores);
        merits.iter_mut().zip(&self.correction).for_each(|(merit, correction)| *merit += correction);
        is_out.clear();
        is_out.resize(scores.len(), false);
        if let Some(groups) = groups {
            room.leave_groups(*groups);
        }
        for chosen in &mut *out {
            chosen.expert = take_best(&room.merits, &mut room.is_out);
        }
        out.sort_unstable_by_key(|chosen| chosen.expert);
        let mut sum = 0.0;
        for chosen in &mut *out {
            chosen.weight = scores.get(chosen.expert).copied().unwrap_or(f32::NAN);
            sum += chosen.weight;
        }
        // Sigmoids may all be zero.
        let factor = if *is_normalized { scale / (sum + 1e-20) } else { *scale };
        for chosen in out {
            chosen.weight *= factor * self.expert_scale.get(chosen.expert).copied().unwrap_or(1.0);
        }
    }
}

impl RoutingRoom {
    /// Takes out all groups but the best.
    fn leave_groups(&mut self, spec: GroupsSpec) {
        let Self { merits, is_out, sorted, groups, is_taken } = self;
        let size = merits.len() / spec.count.max(1);
        groups.clear();
        for group in merits.chunks_exact(size.max(1)) {
            sorted.clear();
            sorted.extend_from_slice(group);
            sorted.sort_unstable_by(|a, b| b.total_cmp(a));
            groups.push(sorted.iter().take(spec.best).sum());
        }
        is_out.fill(true);
        is_taken.clear();
        is_taken.resize(groups.len(), false);
        for _ in 0..spec.chosen.min(groups.len()) {
            let group = take_best(groups, is_taken);
            is_out[group * size..(group + 1) * size].fill(false);
        }
    }
}

fn softmax(scores: &mut [f32]) {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in &mut *scores {
        *score = (*score - most).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// Returns the place of the best merit that is not out yet, and takes it out.
fn take_best(merits: &[f32], is_out: &mut [bool]) -> usize {
    let mut best: Option<usize> = None;
    for (place, merit) in merits.iter().enumerate().filter(|(place, _)| !is_out[*place]) {
        if best.is_none_or(|best| *merit > merits[best]) {
            best = Some(place);
        }
    }
    let best = best.unwrap_or(0);
    is_out[best] = true;
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(spec: RoutingSpec, correction: &[f32], scores: &[f32]) -> Vec<(usize, f32)> {
        let mut out = vec![Chosen::default(); spec.chosen];
        let routing = Routing { spec, correction: correction.to_vec(), expert_scale: Vec::new() };
        routing.choose(&mut scores.to_vec(), &mut RoutingRoom::default(), &mut out);
        out.into_iter().map(|chosen| (chosen.expert, chosen.weight)).collect()
    }

    fn spec(chosen: usize, scoring: Scoring) -> RoutingSpec {
        RoutingSpec {
            chosen,
            score_scale: 1.0,
            scoring,
            correction: None,
            groups: None,
            is_normalized: false,
            scale: 1.0,
            expert_scale: None,
        }
    }

    #[test]
    fn the_best_are_chosen_and_of_equals_the_first() {
        let ln = |x: f32| x.ln();
        let scores = [0.1, 0.3, 0.2, 0.3, 0.1].map(ln);
        let found = choose(spec(3, Scoring::Softmax), &[], &scores);
        assert_eq!(found.iter().map(|(expert, _)| *expert).collect::<Vec<_>>(), [1, 2, 3]);
        assert!((found[1].1 - 0.2).abs() < 1e-6);
        let normalized = RoutingSpec { is_normalized: true, scale: 2.0, ..spec(3, Scoring::Softmax) };
        let sum: f32 = choose(normalized, &[], &scores).iter().map(|(_, weight)| weight).sum();
        assert!((sum - 2.0).abs() < 1e-6);
        assert_eq!(choose(spec(1, Scoring::Softmax), &[], &[5.0, 5.0])[0].0, 0);
    }

    #[test]
    fn a_correction_chooses_and_does_not_weigh() {
        let found = choose(spec(1, Scoring::Sigmoid), &[0.0, 0.0, 0.9], &[0.0, 2.0, -1.0]);
        assert_eq!(found[0].0, 2);
        assert!((found[0].1 - 0.268_941_4).abs() < 1e-6);
    }

    #[test]
    fn experts_come_from_the_best_groups() {
        let groups = |best| Some(GroupsSpec { count: 3, chosen: 1, best });
        let scores = [3.0, -9.0, 2.0, 2.5, 0.0, 0.0];
        let one = RoutingSpec { groups: groups(1), ..spec(2, Scoring::Sigmoid) };
        assert_eq!(choose(one, &[], &scores).iter().map(|found| found.0).collect::<Vec<_>>(), [0, 1]);
        let two = RoutingSpec { groups: groups(2), ..spec(2, Scoring::Sigmoid) };
        assert_eq!(choose(two, &[], &scores).iter().map(|found| found.0).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn what_is_not_a_number_chooses_some() {
        let found = choose(spec(2, Scoring::Softmax), &[], &[f32::NAN, 1.0, 2.0]);
        assert_eq!(found.len(), 2);
        assert!(found[0].0 != found[1].0 && found.iter().all(|(_, weight)| weight.is_nan()));
    }
}
