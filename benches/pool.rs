//! What rules of eviction cost on drawn traces: `cargo bench -p hub-benches --bench pool [-- FOLDER]`.
//!
//! Seconds of loads to the least that is possible: the sum of twenty seeds, and the best and worst of them. With a FOLDER the first
//! trace of each kind is written there, as `hub bench --trace` reads it.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{error::Error, path::Path};

use hub_pool::{Policy, Trace, generate, optimum, simulate};

/// Draws a trace of a seed.
type Generate = fn(u64) -> Trace;

const KINDS: [(&str, Generate); 3] = [
    ("mixed-day", generate::mixed_day),
    ("alternation", generate::alternation),
    ("bursts", generate::bursts),
];
const SEEDS: std::ops::RangeInclusive<u64> = 1..=20;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    println!("| trace | requests | least, s | {} |", Policy::ALL.map(Policy::as_str).join(" | "));
    println!("| --- | ---: | ---: |{}", " ---: |".repeat(Policy::ALL.len()));
    for (name, generate) in KINDS {
        let traces: Vec<Trace> = SEEDS.map(generate).collect();
        let least = traces.iter().map(optimum).collect::<Result<Vec<f64>, _>>()?;
        let all: f64 = least.iter().sum();
        let cells = Policy::ALL.map(|policy| {
            let loads: Vec<f64> = traces.iter().map(|trace| simulate(trace, policy).load_s).collect();
            let ratios = loads.iter().zip(&least).map(|(load, least)| load / least);
            let (low, high) =
                ratios.fold((f64::MAX, 0.0_f64), |(low, high), ratio| (low.min(ratio), high.max(ratio)));
            format!("{:.2} ({low:.2}–{high:.2})", loads.iter().sum::<f64>() / all)
        });
        let count = traces.iter().map(|trace| trace.requests.len()).sum::<usize>() / traces.len();
        println!("| {name} | {count} | {:.0} | {} |", all / traces.len() as f64, cells.join(" | "));
        if let (Some(folder), Some(first)) = (&folder, traces.first()) {
            std::fs::write(Path::new(folder).join(format!("{name}.jsonl")), first.to_text())?;
        }
    }
    Ok(())
}
