//! The products of hub-kernels on this machine: `cargo bench -p hub-benches --bench kernels [SET] [KIND...]`.
//!
//! For each kind of weights a matrix of 8,192 by 2,048, multiplied with 1 to 512 tokens: multiplications with additions
//! a second, and the bytes of weights read a second, medians of several runs. `dense` stands for products of plain
//! matrices of that shape, in each form and beside the crate `gemm`, which candle uses; `attention` for 32 heads over
//! 8 heads of keys of 64 numbers each, as Llama 3.2 1B has them, with 512 tokens and with one at the end of long
//! contexts. The set of instructions is the one in use by default, unless one is named: `avx2`.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{error::Error, hint::black_box, num::NonZeroUsize, time::Instant};

use half::bf16;
use hub_kernels::{
    Activations, Attention, BLOCK, Cpu, Forms, Isa, Kind, KvBlock, KvKind, KvShape, Matrix, Packed, Scratch,
    Sequence, dense,
};

const ROWS: usize = 8_192;
const COLS: usize = 2_048;
/// How many such matrices are gone through, so that a single token finds none of them in a cache.
const MATRICES: usize = 8;
const RUNS: usize = 9;

fn main() -> Result<(), Box<dyn Error>> {
    let asked = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let (sets, asked): (Vec<_>, Vec<_>) =
        asked.partition(|arg| Isa::ALL.iter().any(|isa| isa.as_str() == arg));
    let isa =
        Isa::ALL.into_iter().find(|isa| sets.iter().any(|set| set == isa.as_str())).unwrap_or_else(Isa::best);
    let threads = std::thread::available_parallelism()?;
    println!("GMAC/s and GB/s of weights, {ROWS} x {COLS}, {isa} instructions");
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
            let cpu = Cpu::new(threads, isa)?;
            for tokens in [1, 4, 8, 16, 128, 512] {
                let (macs, bytes) = measure(&weights, tokens, &cpu);
                println!("{name:6} {threads:>7} {tokens:>6} {:>9.1} {:>9.1}", macs / 1e9, bytes / 1e9);
            }
        }
    }
    if asked.is_empty() || asked.iter().any(|asked| asked == "dense") {
        println!(
            "\n{:7} {:>6} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "threads", "rows", "a b", "a bT", "aT b", "bf16", "gemm"
        );
        for threads in [NonZeroUsize::MIN, threads] {
            for rows in [32, 128, 512] {
                let rates = dense_rates(rows, &Cpu::new(threads, isa)?).map(|rate| format!("{rate:>8.1}"));
                println!("{threads:>7} {rows:>6} {}", rates.join(" "));
            }
        }
    }
    if asked.is_empty() || asked.iter().any(|asked| asked == "attention") {
        let peak = Cpu::new(threads, isa)?.measure()?.floats_per_s / 1e9;
        println!("\nattention, GMAC/s of {peak:.0} in `f32`");
        println!("{:7} {:>5} {:>8} {:>10} {:>10}", "threads", "kept", "context", "512 tokens", "one token");
        for threads in [NonZeroUsize::MIN, threads] {
            let cpu = Cpu::new(threads, isa)?;
            for kind in [KvKind::F16, KvKind::F32, KvKind::Q8] {
                for context in [2_048, 8_192, 32_768] {
                    let [many, one] = attention_rates(kind, context, &cpu);
                    println!("{threads:>7} {:>5} {context:>8} {many:>10.1} {one:>10.1}", format!("{kind:?}"));
                }
            }
        }
    }
    Ok(())
}

/// Returns 10^9 multiplications a second of the last 512 tokens of a context, and of the last one.
fn attention_rates(kind: KvKind, context: usize, cpu: &Cpu) -> [f64; 2] {
    const HEADS: usize = 32;
    const KV_HEADS: usize = 8;
    const DIM: usize = 64;
    let attention = Attention {
        heads: HEADS,
        kv_heads: KV_HEADS,
        head_dim: DIM,
        value_dim: DIM,
        scale: 0.125,
        soft_cap: None,
        window: None,
        is_causal: true,
        sinks: Vec::new(),
    };
    let owned: Vec<_> = (0..context / BLOCK)
        .map(|_| KvBlock::new(kind, 1, KvShape { heads: KV_HEADS, key_dim: DIM, value_dim: DIM }))
        .collect();
    let blocks: Vec<&KvBlock> = owned.iter().collect();
    let draw = |len: usize, step: f32| (0..len).map(|at| (at as f32 * step).sin()).collect::<Vec<f32>>();
    let sequence =
        |count| [Sequence { start: 0, count, position: context - count, blocks: &blocks, dropped: 0 }];
    let (keys, values) = (draw(context * KV_HEADS * DIM, 0.37), draw(context * KV_HEADS * DIM, 0.73));
    attention.write(&keys, &values, &sequence(context), 0, cpu);
    let mut scratch = Scratch::default();
    [512, 1].map(|count| {
        let queries = draw(count * HEADS * DIM, 0.91);
        let mut out = vec![0.0; queries.len()];
        let time = median((0..RUNS).map(|_| {
            let start = Instant::now();
            attention.attend(&queries, &sequence(count), 0, &mut out, &mut scratch, cpu);
            start.elapsed().as_secs_f64()
        }));
        let seen = (context - count) * count + count * (count + 1) / 2;
        (2 * seen * HEADS * DIM) as f64 / time / 1e9
    })
}

/// Returns 10^9 multiplications a second of `[rows, COLS]` with `[COLS, ROWS]`.
fn dense_rates(rows: usize, cpu: &Cpu) -> [f64; 5] {
    let draw = |len: usize, step: f32| (0..len).map(|at| (at as f32 * step).sin()).collect::<Vec<f32>>();
    let (a, b) = (draw(rows * COLS, 0.37), draw(COLS * ROWS, 0.11));
    let narrow = |numbers: &[f32]| numbers.iter().copied().map(bf16::from_f32).collect::<Vec<_>>();
    let (narrow_a, narrow_b) = (narrow(&a), narrow(&b));
    let mut out = vec![0.0; rows * ROWS];
    let rate = |product: &mut dyn FnMut()| {
        let seconds = median((0..RUNS).map(|_| {
            let start = Instant::now();
            product();
            start.elapsed().as_secs_f64()
        }));
        (rows * ROWS * COLS) as f64 / seconds / 1e9
    };
    let (plain_a, plain_b) = (Matrix::new(&a, rows, COLS), Matrix::new(&b, COLS, ROWS));
    let turned_a = Matrix::new(&a, COLS, rows).transposed();
    let turned_b = Matrix::new(&b, ROWS, COLS).transposed();
    let (narrow_a, narrow_b) = (Matrix::new(&narrow_a, rows, COLS), Matrix::new(&narrow_b, COLS, ROWS));
    [
        rate(&mut || dense(plain_a, plain_b, &mut out, cpu)),
        rate(&mut || dense(plain_a, turned_b, &mut out, cpu)),
        rate(&mut || dense(turned_a, plain_b, &mut out, cpu)),
        rate(&mut || dense(narrow_a, narrow_b, &mut out, cpu)),
        rate(&mut || gemm_rows(&a, &b, rows, cpu.threads())),
    ]
}

/// Multiplies as candle does.
fn gemm_rows(a: &[f32], b: &[f32], rows: usize, threads: usize) {
    let mut out = vec![0.0_f32; rows * ROWS];
    let threads = if threads == 1 { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(threads) };
    #[expect(unsafe_code, reason = "gemm takes pointers")]
    // SAFETY: the matrices are `[rows, COLS]`, `[COLS, ROWS]` and `[rows, ROWS]`, row by row, as the steps say.
    unsafe {
        gemm::gemm(
            rows,
            ROWS,
            COLS,
            out.as_mut_ptr(),
            1,
            ROWS as isize,
            false,
            a.as_ptr(),
            1,
            COLS as isize,
            b.as_ptr(),
            1,
            ROWS as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            threads,
        );
    }
    black_box(out);
}

/// Returns multiplications and bytes a second.
fn measure(weights: &[Packed], tokens: usize, cpu: &Cpu) -> (f64, f64) {
    let x: Vec<f32> = (0..tokens * COLS).map(|at| (at as f32 * 0.37).sin()).collect();
    let forms = Forms::of(weights.iter().map(Packed::kind));
    let x = Activations::of(&x, COLS, forms, cpu);
    let mut out = vec![0.0; tokens * ROWS];
    let median = median((0..RUNS).map(|_| {
        let start = Instant::now();
        for weights in weights {
            weights.matmul(&x, &mut out, cpu);
        }
        start.elapsed().as_secs_f64() / weights.len() as f64
    }));
    let bytes = weights.first().map_or(0, Packed::bytes);
    ((tokens * ROWS * COLS) as f64 / median, bytes as f64 / median)
}

fn median(runs: impl Iterator<Item = f64>) -> f64 {
    let mut runs: Vec<f64> = runs.collect();
    runs.sort_by(f64::total_cmp);
    runs.get(runs.len() / 2).copied().unwrap_or(0.0)
}
