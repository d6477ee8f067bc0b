use hub_kernels::{Activations, Isa, Kind, Packed};
use std::time::Instant;
fn main() {
    let (rows, cols) = (8192, 2048);
    for kind in [Kind::Q4K, Kind::Q4_0, Kind::Q8_0, Kind::Q5K, Kind::Q6K, Kind::Q5_0, Kind::Q3K, Kind::Q2K] {
        let raw: Vec<u8> =
            (0..rows * cols / kind.block() * kind.block_bytes()).map(|i| (i * 7 % 61) as u8).collect();
        let t = Instant::now();
        let w = Packed::pack(kind, rows, cols, &raw).unwrap();
        let pack = t.elapsed().as_secs_f64();
        let mut line = format!("{kind:?} pack {pack:.2} s {:.1} MB", w.bytes() as f64 / 1e6);
        for tokens in [1usize, 4, 32, 128] {
            let x: Vec<f32> = (0..tokens * cols).map(|i| (i % 17) as f32 - 8.0).collect();
            let mut out = vec![0.0; tokens * rows];
            let mut best = f64::MAX;
            for _ in 0..5 {
                let t = Instant::now();
                let a = Activations::quantize(kind, &x, cols, Isa::best());
                w.matmul(&a, &mut out, Isa::best());
                best = best.min(t.elapsed().as_secs_f64());
            }
            let gmac = (tokens * rows * cols) as f64 / best / 1e9;
            line += &format!("  T{tokens}: {gmac:.1} GMAC/s");
            if tokens == 1 {
                line += &format!(" ({:.1} GB/s)", w.bytes() as f64 / best / 1e9);
            }
        }
        println!("{line}");
    }
}
