//! What rounding costs: `cargo bench -p hub-benches --bench quality -- MODEL [TEXT [PLAIN]]`.
//!
//! Reads the file TEXT (the guide model's held-out questions, if there is none; `*.json` is a list of token ids) 512 tokens at
//! a time, and prints for
//! each executor and kind of cache the perplexity of the second half of each piece, and how far the probabilities are
//! from those of PLAIN, a file with the same weights as `f32`, which `plain.py` beside this file makes (the Kullback-Leibler divergence, as llama.cpp's
//! `llama-perplexity --kl-divergence` has it). Without PLAIN they are compared with candle's over the same file.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{error::Error, path::Path};

use hub_base::{Account, CancelToken, ProgressSink};
use hub_models::{ModelParts, spec_of};
use hub_nn::{
    Device, Priority,
    executor::{Executor, ExecutorKind, ExecutorOptions, Input, KvKind, Outputs, Segment, Want},
    state::SequenceState,
    tokens::AddSpecial,
    weights::Weights,
};

const PIECE: usize = 512;
const MOST_PIECES: usize = 4;
const HELD_OUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/hub-models/guide/held_out.jsonl");

type Logits = Vec<Vec<f32>>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let model = args.next().ok_or("which model?")?;
    let path = args.next().unwrap_or_else(|| HELD_OUT.to_owned());
    let text = std::fs::read_to_string(&path)?;
    let plain = args.next();
    let tokens: Vec<u32> = match path.ends_with(".json") {
        true => serde_json::from_str(&text)?,
        false => ModelParts::open(model.as_str())?.tokenizer.encode(&text, AddSpecial::No)?,
    };
    let pieces: Vec<&[u32]> = tokens.chunks_exact(PIECE).take(MOST_PIECES).collect();
    println!("{model}, {} pieces of {PIECE} tokens", pieces.len());

    let candle = ExecutorOptions::default().kind(ExecutorKind::Candle);
    let cpu = ExecutorOptions::default().kind(ExecutorKind::Cpu);
    let reference = logits(plain.as_deref().unwrap_or(&model), candle, &pieces)?;
    let settings = [
        ("candle", candle),
        ("cpu, cache f32", cpu.kv(KvKind::F32)),
        ("cpu, cache f16", cpu.kv(KvKind::F16)),
        ("cpu, cache q8", cpu.kv(KvKind::Q8)),
    ];
    println!("{:16} {:>12} {:>14} {:>14}", "executor", "perplexity", "KL divergence", "its median");
    for (name, options) in settings {
        let found = logits(&model, options, &pieces)?;
        let perplexity = perplexity(&found, &pieces);
        let (mean, median) = divergence(&reference, &found);
        println!("{name:16} {perplexity:>12.5} {mean:>14.3e} {median:>14.3e}");
    }
    Ok(())
}

/// Returns the logits of the second half of each piece.
fn logits(model: &str, options: ExecutorOptions, pieces: &[&[u32]]) -> Result<Vec<Logits>, Box<dyn Error>> {
    let weights = Weights::open(Path::new(model))?;
    let spec = spec_of(&weights, None)?;
    let device = Device::cpu(Account::unlimited());
    let mut executor =
        options.load(spec, &weights, &device, &ProgressSink::default(), &CancelToken::new())?;
    pieces.iter().map(|piece| second_half(executor.as_mut(), piece)).collect()
}

fn second_half(executor: &mut dyn Executor, tokens: &[u32]) -> Result<Logits, Box<dyn Error>> {
    let mut state = SequenceState::default();
    executor.append(&mut state, tokens.len())?;
    let span = tokens.len();
    let input = Input::Tokens(tokens);
    let mut segments = [Segment { input, state: Some(&mut state), outputs: Outputs::All, span }];
    let layers = 0..executor.spec().layers.len();
    let output = executor.run(layers, &mut segments, Want::Head, Priority::Interactive)?;
    let rows = output.rows().skip(tokens.len() / 2).map(<[f32]>::to_vec).collect();
    executor.release(state);
    Ok(rows)
}

/// Returns `e` to the mean of what each token surprises by; the first half of a piece is only read.
fn perplexity(logits: &[Logits], pieces: &[&[u32]]) -> f64 {
    let surprises: Vec<f64> = logits
        .iter()
        .zip(pieces)
        .flat_map(|(rows, piece)| rows.iter().zip(&piece[piece.len() / 2 + 1..]))
        .filter_map(|(row, token)| Some(-log_probabilities(row).get(*token as usize)?))
        .collect();
    (surprises.iter().sum::<f64>() / surprises.len() as f64).exp()
}

/// Returns the mean and the median over all rows of `sum(p * ln(p / q))`, where `p` are the reference's probabilities. In
/// mixtures a few rows choose other experts than the reference, and only the mean shows those.
fn divergence(reference: &[Logits], found: &[Logits]) -> (f64, f64) {
    let rows = reference.iter().flatten().zip(found.iter().flatten());
    let mut all: Vec<f64> = rows
        .map(|(p, q)| {
            let pairs = log_probabilities(p).into_iter().zip(log_probabilities(q));
            pairs.map(|(p, q)| p.exp() * (p - q)).sum()
        })
        .collect();
    all.sort_by(f64::total_cmp);
    let mean = all.iter().sum::<f64>() / all.len().max(1) as f64;
    (mean, all.get(all.len() / 2).copied().unwrap_or(0.0))
}

fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    logits.iter().map(|logit| f64::from(logit - largest) - sum.ln()).collect()
}
