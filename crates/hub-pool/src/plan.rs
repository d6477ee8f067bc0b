//! Which models leave.

/// A model that may leave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// What it would free.
    pub bytes: u64,
    /// What it would cost to lose: expected seconds, in any unit that is the same for all.
    pub cost: f64,
}

/// How many sets are looked at; exact for sixteen models and more, and for the rest the best that was met.
const MAX_SETS: usize = 1 << 16;

/// Chooses the set of models whose loss costs least among those that free `needed` bytes; of equal ones the one that frees
/// least. Returns their places in rising order, nothing if all together are too small.
pub fn cheapest(candidates: &[Candidate], needed: u64) -> Option<Vec<usize>> {
    let all = candidates.iter().fold(0_u64, |sum, candidate| sum.saturating_add(candidate.bytes));
    if needed == 0 {
        return Some(Vec::new());
    }
    if all < needed {
        return None;
    }
    // Large ones first: sets that are enough are met early, and cut off the dearer rest.
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(candidates[*at].bytes));
    let mut left = vec![0; order.len() + 1];
    for (at, place) in order.iter().enumerate().rev() {
        left[at] = candidates[*place].bytes.saturating_add(left[at + 1]);
    }
    let mut search =
        Search { candidates, order: &order, left: &left, needed, sets: 0, chosen: Vec::new(), best: None };
    search.look(0, 0, 0.0);
    let mut best = search.best?.places;
    best.sort_unstable();
    Some(best)
}

struct Search<'a> {
    candidates: &'a [Candidate],
    order: &'a [usize],
    /// The bytes of all candidates from each place of the order on.
    left: &'a [u64],
    needed: u64,
    sets: usize,
    chosen: Vec<usize>,
    best: Option<Best>,
}

struct Best {
    cost: f64,
    bytes: u64,
    places: Vec<usize>,
}

impl Search<'_> {
    /// Looks at all sets that begin with those chosen, from a place of the order on.
    fn look(&mut self, at: usize, bytes: u64, cost: f64) {
        self.sets += 1;
        if self.best.as_ref().is_some_and(|best| cost > best.cost)
            || bytes.saturating_add(self.left[at]) < self.needed
        {
            return;
        }
        if bytes >= self.needed {
            if self.best.as_ref().is_none_or(|best| (cost, bytes) < (best.cost, best.bytes)) {
                self.best = Some(Best { cost, bytes, places: self.chosen.clone() });
            }
            return;
        }
        if self.sets > MAX_SETS && self.best.is_some() {
            return;
        }
        let Some(&place) = self.order.get(at) else { return };
        let candidate = self.candidates[place];
        self.chosen.push(place);
        self.look(at + 1, bytes.saturating_add(candidate.bytes), cost + candidate.cost.max(0.0));
        self.chosen.pop();
        self.look(at + 1, bytes, cost);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(candidates: &[Candidate], set: &[usize]) -> (f64, u64) {
        let of = |at: &usize| candidates[*at];
        (set.iter().map(|at| of(at).cost).sum(), set.iter().map(|at| of(at).bytes).sum())
    }

    proptest! {
        #[test]
        fn no_other_set_is_cheaper(sizes in prop::collection::vec((1_u64..50, 0_u32..20), 0..9), needed in 0_u64..200) {
            let candidates: Vec<Candidate> =
                sizes.iter().map(|(bytes, cost)| Candidate { bytes: *bytes, cost: f64::from(*cost) }).collect();
            let sets = (0_u32..1 << candidates.len()).map(|set| {
                (0..candidates.len()).filter(|at| set >> at & 1 == 1).collect::<Vec<usize>>()
            });
            let enough = sets.map(|set| sum(&candidates, &set)).filter(|(_, bytes)| *bytes >= needed);
            let best = enough.min_by(|a, b| a.partial_cmp(b).unwrap());
            let found = cheapest(&candidates, needed).map(|set| sum(&candidates, &set));
            prop_assert_eq!(found, best);
        }
    }

    #[test]
    fn many_models_are_chosen_from_at_once() {
        let candidates: Vec<Candidate> =
            (0..200).map(|at| Candidate { bytes: 100 + at % 7, cost: f64::from(at as u32 % 13) }).collect();
        let set = cheapest(&candidates, 5_000).unwrap();
        assert!(sum(&candidates, &set).1 >= 5_000);
        assert_eq!(cheapest(&candidates, u64::MAX), None);
        assert_eq!(cheapest(&[], 0), Some(Vec::new()));
    }
}
