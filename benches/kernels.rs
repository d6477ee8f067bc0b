//! The products of hub-kernels on this machine: `cargo bench -p hub-benches --bench kernels [KIND...]`.
//!
//! For each kind of weights a matrix of 8,192 by 2,048, multiplied with 1 to 512 tokens: multiplications with additions
//! a second, and the bytes of weights read a second, medians of several runs.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{error::Error, num::NonZeroUsize, time::Instant};

use hub_kernels::{Activations, Cpu, Forms, Isa, Kind, Packed};

const ROWS: usize = 8_192;
const COLS: usize = 2_048;
/// How many such matrices are gone through, so that a single token finds none of them in a cache.
const MATRICES: usize = 8;
const RUNS: usize = 9;

fn main() -> Result<(), Box<dyn Error>> {
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let threads = std::thread::available_parallelism()?;
    println!("GMAC/s and GB/s of weights, {ROWS} x {COLS}, {} instructions", Isa::best());
    println!("{:6} {:>7} {:>6} {:>9} {:>9}", "kind", "threads", "tokens", "GMAC/s", "GB/s");
    for kind in Kind::ALL {
        let name = format!("{kind:?}");
        if !asked.is_empty() && !asked.contains(&name) {
            continue;
        }
        let raw: Vec<u8> = (0..ROWS * COLS / kind.block() * kind.block_bytes())
            .map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] & 0x3b)
            .collect();
        let weights = (0..MATRICES).map(|_| Packed::pack(kind, ROWS, COLS, &raw));
        let weights = weights.collect::<Result<Vec<_>, _>>()?;
        for threads in [NonZeroUsize::MIN, threads] {
            let cpu = Cpu::new(threads, Isa::best())?;
            for tokens in [1, 4, 8, 16, 128, 512] {
                let (macs, bytes) = measure(&weights, tokens, &cpu);
                println!("{name:6} {threads:>7} {tokens:>6} {:>9.1} {:>9.1}", macs / 1e9, bytes / 1e9);
            }
        }
    }
    Ok(())
}

/// Returns multiplications and bytes a second.
fn measure(weights: &[Packed], tokens: usize, cpu: &Cpu) -> (f64, f64) {
    let x: Vec<f32> = (0..tokens * COLS).map(|at| (at as f32 * 0.37).sin()).collect();
    let forms = Forms::of(weights.iter().map(Packed::kind));
    let x = Activations::of(&x, COLS, forms, cpu);
    let mut out = vec![0.0; tokens * ROWS];
    let mut seconds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            for weights in weights {
                weights.matmul(&x, &mut out, cpu);
            }
            start.elapsed().as_secs_f64() / weights.len() as f64
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds[RUNS / 2];
    let bytes = weights.first().map_or(0, Packed::bytes);
    ((tokens * ROWS * COLS) as f64 / median, bytes as f64 / median)
}
