//! `cargo xtask compare`: the hub beside llama.cpp on the same files, in turns.
//!
//! Each round measures the hub, then llama.cpp with and without repacked weights, of which the better figure counts,
//! both with huge pages. Ratios are taken within a round, because a shared machine is another one an hour later.

pub(crate) mod embeddings;
mod engine;
mod models;

use std::{collections::BTreeMap, path::PathBuf};

use self::engine::{Hub, Instructions, LlamaCpp, Setting};
use crate::run::Error;

/// What was measured: a figure for each name, such as `prefill`.
type Figures = BTreeMap<String, f64>;

/// What is compared.
struct Options {
    rounds: usize,
    threads: Vec<usize>,
    parallel: Vec<usize>,
    instructions: Instructions,
    files: Vec<PathBuf>,
}

const USAGE: &str = "usage: cargo xtask compare [--rounds N] [--threads N,…] [--parallel N,…] \
                     [--instructions auto|avx2|portable] [FILE.gguf…]";

/// Compares, and prints a table for each file and number of threads.
///
/// # Errors
/// If an engine cannot be built, or ends with an error.
pub(crate) fn compare(args: &[String]) -> Result<(), Error> {
    let Options { rounds, threads, parallel, instructions, files } = Options::parse(args)?;
    let files = if files.is_empty() { models::made()? } else { files };
    let (hub, peer) = (Hub::built(instructions)?, LlamaCpp::built(instructions)?);
    println!("processor: {}", processor());
    for file in &files {
        for &threads in &threads {
            let setting = Setting { file, threads, parallel: &parallel };
            let mut pairs = Vec::new();
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            for round in 1..=rounds {
                eprintln!("{name}, threads: {threads}, round {round} of {rounds}");
                pairs.push((hub.measure(&setting)?, peer.measure(&setting)?));
            }
            println!("\n### {name}, threads: {threads}, rounds: {rounds}\n\n{}", table(&pairs));
        }
    }
    Ok(())
}

impl Options {
    fn parse(args: &[String]) -> Result<Self, Error> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if cores > 1 { vec![1, cores] } else { vec![1] };
        let mut options = Self {
            rounds: 3,
            threads,
            parallel: vec![4, 8, 16, 32],
            instructions: Instructions::All,
            files: Vec::new(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if arg == "--instructions" {
                let name = args.next().ok_or(USAGE)?;
                options.instructions = Instructions::parse(name).ok_or(USAGE)?;
                continue;
            }
            let mut numbers = || -> Result<Vec<usize>, Error> {
                let value = args.next().ok_or(USAGE)?;
                value.split(',').map(|number| Ok(number.parse().map_err(|_| USAGE)?)).collect()
            };
            match arg.as_str() {
                "--rounds" => options.rounds = numbers()?.first().copied().unwrap_or(1).max(1),
                "--threads" => options.threads = numbers()?,
                "--parallel" => options.parallel = numbers()?,
                flag if flag.starts_with('-') => return Err(USAGE.into()),
                file => options.files.push(file.into()),
            }
        }
        Ok(options)
    }
}

/// Whether a figure is a cost, as its unit says, and no rate.
fn less_is_better(name: &str) -> bool {
    name.ends_with(" s") || name.ends_with(" MiB")
}

/// Names the processor and what it has that matters here.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let flags = field("flags").unwrap_or_default();
    let has = |flag: &&str| flags.split(' ').any(|known| known == *flag);
    let known: Vec<&str> =
        ["avx2", "avx_vnni", "avx512_vnni", "amx_bf16", "amx_int8"].into_iter().filter(has).collect();
    format!("{} ({})", field("model name").unwrap_or_else(|| "unknown".to_owned()), known.join(" "))
}

/// Returns medians of both, and the median of the ratios with their spread; above 1 the hub is ahead.
fn table(pairs: &[(Figures, Figures)]) -> String {
    let mut text = String::from(
        "| figure | hub | llama.cpp | hub is ahead by (spread) |\n| --- | ---: | ---: | ---: |\n",
    );
    let names = pairs.first().map(|(hub, _)| hub.keys()).into_iter().flatten();
    for name in names {
        let both = |(hub, peer): &(Figures, Figures)| Some((*hub.get(name)?, *peer.get(name)?));
        let rows: Vec<(f64, f64)> = pairs.iter().filter_map(both).collect();
        if rows.is_empty() {
            continue;
        }
        let ahead = |(hub, peer): &(f64, f64)| if less_is_better(name) { peer / hub } else { hub / peer };
        let sorted = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values
        };
        let ratios = sorted(rows.iter().map(ahead).collect());
        let median = |values: Vec<f64>| sorted(values)[rows.len() / 2];
        text += &format!(
            "| {name} | {:.2} | {:.2} | {:.2} × ({:.2}–{:.2}) |\n",
            median(rows.iter().map(|row| row.0).collect()),
            median(rows.iter().map(|row| row.1).collect()),
            ratios[ratios.len() / 2],
            ratios[0],
            ratios[ratios.len() - 1],
        );
    }
    text
}
