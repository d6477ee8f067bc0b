//! The least that requests can wait for loads.

use crate::{Error, Trace};

/// The most models for which all sets are looked at.
const MAX_MODELS: usize = 10;

/// Computes how long the requests of a trace wait for loads at least, in seconds, if every request that is to come is known: over
/// all sets of models that may be in memory after each request. A model is loaded when it is asked for; models in use stay where
/// there is room beside them.
///
/// # Errors
/// [`Error::TooManyModels`] for more than ten.
pub fn optimum(trace: &Trace) -> Result<f64, Error> {
    let count = trace.models.len();
    if count > MAX_MODELS {
        return Err(Error::TooManyModels { found: count, most: MAX_MODELS });
    }
    let sets = 1_usize << count;
    let bytes = |set: usize| -> u64 {
        trace
            .models
            .iter()
            .enumerate()
            .filter(|(at, _)| set >> at & 1 == 1)
            .map(|(_, model)| model.bytes)
            .sum()
    };
    let fits: Vec<bool> = (0..sets).map(|set| bytes(set) <= trace.budget_bytes).collect();
    let mut costs = vec![f64::INFINITY; sets];
    costs[0] = 0.0;
    let mut until = vec![f64::NEG_INFINITY; count];
    for request in &trace.requests {
        let wanted = 1_usize << request.model;
        let busy = (0..count).filter(|at| until[*at] > request.at).fold(0, |busy, at| busy | 1 << at);
        let mut next = vec![f64::INFINITY; sets];
        for (set, cost) in costs.iter().enumerate().filter(|(_, cost)| cost.is_finite()) {
            if set & wanted != 0 {
                next[set] = next[set].min(*cost);
                continue;
            }
            let stays = if fits[busy & set | wanted] { busy & set } else { 0 };
            let cost = cost + trace.models[request.model].load_s;
            // All sets of what may leave, from the whole down to nothing.
            let mut kept = set;
            loop {
                let after = kept | wanted;
                if kept & stays == stays && fits[after] {
                    next[after] = next[after].min(cost);
                }
                if kept == 0 {
                    break;
                }
                kept = (kept - 1) & set;
            }
        }
        costs = next;
        until[request.model] = until[request.model].max(request.at + request.length_s);
    }
    Ok(costs.into_iter().fold(f64::INFINITY, f64::min).min(f64::INFINITY))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Policy, Request, TracedModel, simulate};

    fn trace(sizes: &[(u64, u32)], asked: &[usize]) -> Trace {
        let model = |(at, (bytes, load)): (usize, &(u64, u32))| TracedModel {
            name: format!("m{at}"),
            bytes: *bytes,
            load_s: f64::from(*load),
        };
        let request = |(at, model): (usize, &usize)| Request {
            at: at as f64 * 10.0,
            model: model % sizes.len(),
            length_s: 1.0,
        };
        Trace {
            budget_bytes: 10,
            models: sizes.iter().enumerate().map(model).collect(),
            requests: asked.iter().enumerate().map(request).collect(),
        }
    }

    #[test]
    fn what_is_used_again_stays() {
        // The small one comes again, the second large one does not.
        let trace = trace(&[(4, 1), (6, 5), (6, 5)], &[0, 1, 0, 2, 0, 2]);
        assert_eq!(optimum(&trace).unwrap(), 11.0);
    }

    proptest! {
        #[test]
        fn no_rule_waits_less(
            sizes in prop::collection::vec((1_u64..10, 1_u32..10), 1..6),
            asked in prop::collection::vec(0_usize..6, 0..40),
        ) {
            let trace = trace(&sizes, &asked);
            let least = optimum(&trace).unwrap();
            for policy in [Policy::Forecast, Policy::LeastRecentlyUsed, Policy::Name] {
                prop_assert!(simulate(&trace, policy).load_s >= least - 1e-9);
            }
        }
    }
}
