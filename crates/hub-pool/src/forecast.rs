//! How soon a model is used again, by when it was used so far.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// How many times are remembered.
const MEMORY: usize = 100;
/// What the time before counts beside each time.
const FADE: f64 = 0.98;
/// A use this soon is as urgent as one now, in seconds.
const SOON: f64 = 10.0;
/// How long a model of which nothing is known is thought to rest, in seconds.
const UNKNOWN: f64 = 600.0;
/// A model that rested so long begins something new, in seconds: what follows it is learned from there.
const REST: f64 = 60.0;
/// What a model's own times count beside those that follow what is asked for.
const OWN: f64 = 2.0;

/// Learns when models are used, and says how soon each will be again. `K` tells models apart.
///
/// A model's cost of being evicted is the seconds of its load by [`urgency`](Self::urgency), the mean of one over the time to its
/// next use: so a rule that knew that time would evict by it, as Belady's does by the time alone (Belady 1966, "A study of
/// replacement algorithms for a virtual-storage computer"). The mean is over two histories: how long the model rested before, of
/// which those count that are longer than it has rested now, and how long after a model like the one that is asked for began,
/// it came up. Each history has its last hundred times.
#[derive(Clone, Debug)]
pub struct Forecast<K> {
    models: HashMap<K, History>,
    /// How long after the first of a pair began something, the second was used.
    follows: HashMap<(K, K), VecDeque<f64>>,
    /// Pairs whose first began something, and when, until the second is used.
    open: HashMap<(K, K), f64>,
}

#[derive(Clone, Debug, Default)]
struct History {
    /// Until when it was used last.
    until: f64,
    rests: VecDeque<f64>,
}

impl<K> Default for Forecast<K> {
    fn default() -> Self {
        Self { models: HashMap::new(), follows: HashMap::new(), open: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash> Forecast<K> {
    /// Notes that a use of a model begins, in seconds since any time; calls come in the order of their times.
    pub fn begins(&mut self, model: &K, at: f64) {
        let waiting: Vec<(K, K)> = self.open.keys().filter(|(_, next)| next == model).cloned().collect();
        for pair in waiting {
            if let Some(since) = self.open.remove(&pair) {
                remember(self.follows.entry(pair).or_default(), (at - since).max(0.0));
            }
        }
        let is_known = self.models.contains_key(model);
        let history = self.models.entry(model.clone()).or_default();
        let rest = at - history.until;
        if is_known {
            remember(&mut history.rests, rest.max(0.0));
        }
        history.until = history.until.max(at);
        if !is_known || rest > REST {
            let others: Vec<K> = self.models.keys().filter(|other| *other != model).cloned().collect();
            for other in others {
                self.open.entry((model.clone(), other)).or_insert(at);
            }
        }
    }

    /// Notes that a use of a model ends.
    pub fn ends(&mut self, model: &K, at: f64) {
        if let Some(history) = self.models.get_mut(model) {
            history.until = history.until.max(at);
        }
    }

    /// Forgets a model that there is no longer.
    pub fn forget(&mut self, model: &K) {
        self.models.remove(model);
        self.follows.retain(|(first, second), _| first != model && second != model);
        self.open.retain(|(first, second), _| first != model && second != model);
    }

    /// Returns one over the seconds until a model is used again, as expected at `now`, when `asked` is asked for.
    pub fn urgency(&self, model: &K, asked: &K, now: f64) -> f64 {
        let Some(history) = self.models.get(model) else { return 1.0 / UNKNOWN };
        let rested = (now - history.until).max(0.0);
        let own = history.rests.iter().map(|rest| (*rest > rested).then(|| rest - rested));
        let own = mean_inverse(own, 1.0, 1.0 / (rested + UNKNOWN));
        let pair = (asked.clone(), model.clone());
        let after = self.follows.get(&pair).into_iter().flatten().map(|after| Some(*after));
        mean_inverse(after, OWN, own)
    }
}

/// Returns the mean of one over these times, the last of which counts most, and of what was known before, which counts `weight`. A
/// time that does not count still ages those before it.
fn mean_inverse(times: impl DoubleEndedIterator<Item = Option<f64>>, weight: f64, known: f64) -> f64 {
    let (mut all, mut sum, mut each) = (weight, weight * known, 1.0);
    for time in times.rev() {
        if let Some(time) = time {
            all += each;
            sum += each / (time + SOON);
        }
        each *= FADE;
    }
    sum / all
}

fn remember(times: &mut VecDeque<f64>, time: f64) {
    if times.len() == MEMORY {
        times.pop_front();
    }
    times.push_back(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_up_often_is_more_urgent_than_what_does_not() {
        let mut forecast = Forecast::default();
        let mut used = |model: i32, begin, end| {
            forecast.begins(&model, begin);
            forecast.ends(&model, end);
        };
        for minute in 0..42 {
            let now = f64::from(minute) * 60.0;
            used(0, now, now + 5.0);
            if minute % 20 == 0 {
                used(1, now + 10.0, now + 15.0);
            }
        }
        let now = 41.5 * 60.0;
        assert!(forecast.urgency(&0, &2, now) > 3.0 * forecast.urgency(&1, &2, now));
        assert!(
            forecast.urgency(&2, &1, now) < forecast.urgency(&0, &2, now),
            "of the unknown little is expected"
        );
    }

    #[test]
    fn what_follows_what_is_asked_for_is_urgent() {
        let mut forecast = Forecast::default();
        let mut used = |model: i32, begin, end| {
            forecast.begins(&model, begin);
            forecast.ends(&model, end);
        };
        for hour in 0..10 {
            let now = f64::from(hour) * 3_600.0;
            used(0, now, now + 5.0);
            used(1, now + 8.0, now + 12.0);
            used(2, now + 1_800.0, now + 1_805.0);
        }
        let now = 36_000.0;
        assert!(forecast.urgency(&1, &0, now) > 1.2 * forecast.urgency(&1, &2, now));
    }

    #[test]
    fn what_is_forgotten_is_unknown() {
        let mut forecast = Forecast::default();
        for at in 0..20 {
            forecast.begins(&(at % 2), f64::from(at));
        }
        assert!(forecast.urgency(&0, &1, 20.0) > 1.0 / UNKNOWN);
        forecast.forget(&0);
        assert_eq!(forecast.urgency(&0, &1, 20.0), 1.0 / UNKNOWN);
        assert!(forecast.follows.is_empty() && forecast.open.is_empty());
    }
}
