//! What a rule of eviction costs on a trace.

use serde::Serialize;

use crate::{Candidate, Forecast, Trace, cheapest};

/// A rule for who leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// Ours: the set whose loss is expected to cost least.
    Forecast,
    /// Who was used longest ago, one after another until there is room.
    LeastRecentlyUsed,
    /// Ollama's: who is idle, by the shortest time to be kept, which is the same for all, and then by name.
    Name,
}

impl Policy {
    /// All of them, ours first.
    pub const ALL: [Self; 3] = [Self::Forecast, Self::LeastRecentlyUsed, Self::Name];

    /// Returns what it is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forecast => "forecast",
            Self::LeastRecentlyUsed => "least recently used",
            Self::Name => "idle, then by name",
        }
    }
}

/// What a trace came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Seconds that requests waited for loads.
    pub load_s: f64,
    /// Loads.
    pub loads: usize,
    /// Seconds that requests waited for models that were in use before there was room.
    pub blocked_s: f64,
}

/// A simulated machine.
struct Machine<'a> {
    trace: &'a Trace,
    is_loaded: Vec<bool>,
    /// Until when each model is in use.
    until: Vec<f64>,
    /// When each was asked for last.
    asked: Vec<f64>,
    forecast: Forecast<usize>,
}

/// Runs a trace under a rule. A request whose model is not in memory waits for its load, and before that until models that are
/// in use leave room.
pub fn simulate(trace: &Trace, policy: Policy) -> Outcome {
    let count = trace.models.len();
    let mut machine = Machine {
        trace,
        is_loaded: vec![false; count],
        until: vec![f64::NEG_INFINITY; count],
        asked: vec![f64::NEG_INFINITY; count],
        forecast: Forecast::default(),
    };
    let mut outcome = Outcome::default();
    for request in &trace.requests {
        let mut begin = request.at;
        if !machine.is_loaded[request.model] {
            let free_at = machine.make_room(request.model, request.at, policy);
            outcome.blocked_s += free_at - request.at;
            outcome.loads += 1;
            let load = trace.models[request.model].load_s;
            outcome.load_s += load;
            begin = free_at + load;
            machine.is_loaded[request.model] = true;
        }
        let end = begin + request.length_s;
        machine.until[request.model] = machine.until[request.model].max(end);
        machine.asked[request.model] = request.at;
        machine.forecast.begins(&request.model, request.at);
        machine.forecast.ends(&request.model, end);
    }
    outcome
}

impl Machine<'_> {
    /// Evicts until a model has room, and returns when that is.
    fn make_room(&mut self, model: usize, now: f64, policy: Policy) -> f64 {
        let bytes = |at: usize| self.trace.models[at].bytes;
        let loaded = |at: &usize| self.is_loaded[*at];
        let used: u64 = (0..self.is_loaded.len()).filter(loaded).map(bytes).sum();
        let needed = (used + bytes(model)).saturating_sub(self.trace.budget_bytes);
        let mut waited = now;
        loop {
            let idle: Vec<usize> =
                (0..self.is_loaded.len()).filter(loaded).filter(|at| self.until[*at] <= waited).collect();
            if idle.iter().map(|at| bytes(*at)).sum::<u64>() >= needed {
                let leaving = self.choose(&idle, needed, (model, now), policy);
                leaving.into_iter().for_each(|at| self.is_loaded[at] = false);
                return waited;
            }
            let next = (0..self.is_loaded.len())
                .filter(loaded)
                .map(|at| self.until[at])
                .filter(|until| *until > waited);
            waited = next.fold(f64::INFINITY, f64::min);
        }
    }

    fn choose(&self, idle: &[usize], needed: u64, (model, now): (usize, f64), policy: Policy) -> Vec<usize> {
        let models = &self.trace.models;
        let mut order = idle.to_vec();
        match policy {
            Policy::Forecast => {
                let cost = |at: usize| models[at].load_s * self.forecast.urgency(&at, &model, now);
                let candidates: Vec<Candidate> =
                    idle.iter().map(|at| Candidate { bytes: models[*at].bytes, cost: cost(*at) }).collect();
                let chosen = cheapest(&candidates, needed).unwrap_or_default();
                return chosen.into_iter().map(|place| idle[place]).collect();
            }
            Policy::LeastRecentlyUsed => order.sort_by(|a, b| self.asked[*a].total_cmp(&self.asked[*b])),
            Policy::Name => order.sort_by(|a, b| models[*a].name.cmp(&models[*b].name)),
        }
        let mut freed = 0;
        let is_needed = |at: &usize| {
            let is_needed = freed < needed;
            freed += models[*at].bytes;
            is_needed
        };
        order.into_iter().take_while(is_needed).collect()
    }
}
