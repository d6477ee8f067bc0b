//! How soon a model is used again, by when it was used so far.

use std::collections::{HashMap, VecDeque};

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

/// Learns when models are used, and says how soon each will be again.
///
/// A model's cost of being evicted is the seconds of its load by [`urgency`](Self::urgency), the mean of one over the time to its
/// next use: so a rule that knew that time would evict by it, as Belady's does by the time alone (Belady 1966, "A study of
/// replacement algorithms for a virtual-storage computer"). The mean is over two histories: how long the model rested before, of
/// which those count that are longer than it has rested now, and how long after a model like the one that is asked for began,
/// it came up.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    models: HashMap<usize, History>,
    /// How long after the first of a pair began something, the second was used.
    follows: HashMap<(usize, usize), VecDeque<f64>>,
    /// Pairs whose first began something, and when, until the second is used.
    open: HashMap<(usize, usize), f64>,
}

#[derive(Clone, Debug, Default)]
struct History {
    /// Until when it was used last.
    until: f64,
    rests: VecDeque<f64>,
}

impl Forecast {
    /// Notes that a model was used from `begin` to `end`, in seconds since any time; calls come in the order of `begin`.
    pub fn used(&mut self, model: usize, begin: f64, end: f64) {
        let waiting: Vec<usize> =
            self.open.keys().filter(|(_, next)| *next == model).map(|(first, _)| *first).collect();
        for first in waiting {
            if let Some(since) = self.open.remove(&(first, model)) {
                remember(self.follows.entry((first, model)).or_default(), (begin - since).max(0.0));
            }
        }
        let is_known = self.models.contains_key(&model);
        let history = self.models.entry(model).or_default();
        let rest = begin - history.until;
        if is_known {
            remember(&mut history.rests, rest.max(0.0));
        }
        history.until = history.until.max(end);
        if !is_known || rest > REST {
            let others: Vec<usize> = self.models.keys().copied().filter(|other| *other != model).collect();
            for other in others {
                self.open.entry((model, other)).or_insert(begin);
            }
        }
    }

    /// Returns one over the seconds until a model is used again, as expected at `now`, when `asked` is asked for.
    pub fn urgency(&self, model: usize, asked: usize, now: f64) -> f64 {
        let Some(history) = self.models.get(&model) else { return 1.0 / UNKNOWN };
        let rested = (now - history.until).max(0.0);
        let (mut weight, mut all, mut sum) = (1.0, 1.0, 1.0 / (rested + UNKNOWN));
        for rest in history.rests.iter().rev() {
            if *rest > rested {
                all += weight;
                sum += weight / (rest - rested + SOON);
            }
            weight *= FADE;
        }
        let own = sum / all;
        let (mut weight, mut all, mut sum) = (1.0, OWN, OWN * own);
        for after in self.follows.get(&(asked, model)).into_iter().flatten().rev() {
            all += weight;
            sum += weight / (after + SOON);
            weight *= FADE;
        }
        sum / all
    }
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
        for minute in 0..42 {
            let now = f64::from(minute) * 60.0;
            forecast.used(0, now, now + 5.0);
            if minute % 20 == 0 {
                forecast.used(1, now + 10.0, now + 15.0);
            }
        }
        let now = 41.5 * 60.0;
        assert!(forecast.urgency(0, 2, now) > 3.0 * forecast.urgency(1, 2, now));
        assert!(
            forecast.urgency(2, 1, now) < forecast.urgency(0, 2, now),
            "of the unknown little is expected"
        );
    }

    #[test]
    fn what_follows_what_is_asked_for_is_urgent() {
        let mut forecast = Forecast::default();
        for hour in 0..10 {
            let now = f64::from(hour) * 3_600.0;
            forecast.used(0, now, now + 5.0);
            forecast.used(1, now + 8.0, now + 12.0);
            forecast.used(2, now + 1_800.0, now + 1_805.0);
        }
        let now = 36_000.0;
        assert!(forecast.urgency(1, 0, now) > 1.2 * forecast.urgency(1, 2, now));
    }
}
