use serde::Serialize;

use crate::{Outcome, Policy, Trace, optimum, simulate};

/// What each rule comes to on one trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// How many requests there are.
    pub requests: usize,
    /// Each rule with what it came to.
    pub rules: Vec<RuleOutcome>,
    /// The least that all loads could have lasted, in seconds; `None` for more models than that is computed for.
    pub least_load_s: Option<f64>,
}

/// What a rule came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RuleOutcome {
    /// What the rule is called.
    pub rule: &'static str,
    /// What it came to.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The seconds of its loads to the least that is possible.
    pub to_least: Option<f64>,
}

/// Runs a trace under every rule.
pub fn compare(trace: &Trace) -> Comparison {
    let least_load_s = optimum(trace).ok();
    let rule = |policy: Policy| {
        let outcome = simulate(trace, policy);
        let to_least = least_load_s.filter(|least| *least > 0.0).map(|least| outcome.load_s / least);
        RuleOutcome { rule: policy.as_str(), outcome, to_least }
    };
    Comparison { requests: trace.requests.len(), rules: Policy::ALL.map(rule).to_vec(), least_load_s }
}
