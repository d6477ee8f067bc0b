//! Products of every kind and instruction set against plain arithmetic.
#![cfg(test)]

mod attention;
mod dense;
mod rows;

use std::num::NonZeroUsize;

use hub_kernels::{Activations, Cpu, Forms, Isa, Kind, Packed, round_to_bytes};
use proptest::prelude::*;

/// Draws bytes: the same for the same seed.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        // A step of SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn number(&mut self) -> f32 {
        (self.next() % 2_001) as f32 / 1_000.0 - 1.0
    }

    /// Draws the blocks of a matrix, with scales that are numbers of a usual size.
    fn blocks(&mut self, kind: Kind, rows: usize, cols: usize) -> Vec<u8> {
        let count = rows * cols / kind.block();
        let mut raw = Vec::new();
        for _ in 0..count {
            let mut block: Vec<u8> = (0..kind.block_bytes()).map(|_| self.next() as u8).collect();
            let halves: &[usize] = match kind {
                Kind::Q4_1 | Kind::Q5_1 | Kind::Q4K | Kind::Q5K => &[0, 2],
                Kind::Q2K => &[80, 82],
                Kind::Q3K => &[108],
                Kind::Q6K => &[208],
                _ => &[0],
            };
            if kind.is_plain() {
                block = match kind {
                    Kind::F16 => half::f16::from_f32(self.number()).to_le_bytes().to_vec(),
                    Kind::BF16 => half::bf16::from_f32(self.number()).to_le_bytes().to_vec(),
                    _ => self.number().to_le_bytes().to_vec(),
                };
                raw.extend(block);
                continue;
            }
            if kind == Kind::MXFP4 {
                // A power of two of a usual size.
                block[0] = 118 + (self.next() % 8) as u8;
            }
            for at in halves.iter().filter(|_| kind != Kind::MXFP4) {
                let half = half::f16::from_f32(self.number() * 0.1).to_le_bytes();
                block[*at..*at + 2].copy_from_slice(&half);
            }
            raw.extend(block);
        }
        raw
    }
}

/// Every set of instructions that is here, on one thread and on three.
fn cpus() -> impl Iterator<Item = Cpu> {
    let isas = Isa::ALL.into_iter().filter(|isa| isa.is_here());
    isas.flat_map(|isa| [1, 3].map(|threads| Cpu::new(NonZeroUsize::new(threads).unwrap(), isa).unwrap()))
}

/// Compares a product with the same over unpacked weights and activations that are not rounded, and every set of
/// instructions with the portable one.
fn check(kind: Kind, rows: usize, cols: usize, tokens: usize, seed: u64) {
    let mut draw = Draw(seed);
    let weights = Packed::pack(kind, rows, cols, &draw.blocks(kind, rows, cols)).unwrap();
    let x: Vec<f32> = (0..tokens * cols).map(|_| draw.number()).collect();
    let mut plain = vec![0.0_f64; tokens * rows];
    let mut scale = vec![0.0_f64; tokens * rows];
    let mut row_numbers = vec![0.0; cols];
    for row in 0..rows {
        weights.unpack(row, &mut row_numbers);
        for token in 0..tokens {
            for (w, x) in row_numbers.iter().zip(&x[token * cols..]) {
                plain[token * rows + row] += f64::from(*w) * f64::from(*x);
                scale[token * rows + row] += f64::from(w.abs());
            }
        }
    }
    let forms = Forms::of([kind]);
    let mut reference: Option<Vec<f32>> = None;
    for cpu in cpus() {
        let activations = Activations::of(&x, cols, forms, &cpu);
        let mut out = vec![f32::NAN; tokens * rows];
        weights.matmul(&activations, &mut out, &cpu);
        for (at, (found, plain)) in out.iter().zip(&plain).enumerate() {
            // A rounded activation is off by half of a 127th of the largest, which is at most 1.
            let bound = if kind.is_plain() { scale[at] * 1e-6 } else { scale[at] / 254.0 + 1e-3 };
            let off = (f64::from(*found) - plain).abs();
            assert!(off <= bound, "{kind:?} {cpu:?} {rows}x{cols}, {tokens} tokens: {found} for {plain}");
        }
        // The first is portable. All round activations alike, so that only the order of sums is left.
        let reference = reference.get_or_insert_with(|| out.clone());
        for (at, (found, reference)) in out.iter().zip(&*reference).enumerate() {
            let off = f64::from((found - reference).abs());
            assert!(
                off <= scale[at] * 2e-6,
                "{kind:?} {cpu:?}: {found} for {reference}, {off:e} of {}",
                scale[at]
            );
        }
        for token in 0..tokens {
            let alone = Activations::of(&x[token * cols..(token + 1) * cols], cols, forms, &cpu);
            let mut one = vec![f32::NAN; rows];
            weights.matmul(&alone, &mut one, &cpu);
            let among = &out[token * rows..(token + 1) * rows];
            assert_eq!(one, among, "{kind:?} {cpu:?}: alone and among others");
        }
    }
}

#[test]
fn every_kind_multiplies() {
    for kind in Kind::ALL {
        check(kind, 40, 512, 6, 7);
    }
}

#[test]
fn many_tokens_multiply_as_few_do() {
    for kind in Kind::ALL {
        // Columns that end within a chunk, and tokens within a tile.
        let cols = if kind.block() == 32 { 352 } else { 512 };
        check(kind, 20, cols, 53, 11);
    }
}

#[test]
fn tokens_of_a_second_block_multiply() {
    for kind in Kind::ALL {
        // More columns than are unpacked at once, where numbers are plain.
        let cols = if kind.is_plain() { 1_100 } else { 256 };
        check(kind, 18, cols, 261, 17);
    }
}

/// What is not a number must not come out as one.
#[test]
fn what_is_not_a_number_stays_so() {
    let mut draw = Draw(3);
    for kind in Kind::ALL {
        let weights = Packed::pack(kind, 16, 512, &draw.blocks(kind, 16, 512)).unwrap();
        for (cpu, at) in cpus().flat_map(|cpu| [0, 255, 300].map(|at| (cpu.clone(), at))) {
            for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x: Vec<f32> = (0..2 * 512).map(|_| draw.number()).collect();
                x[at] = wrong;
                let mut out = vec![0.0; 2 * 16];
                weights.matmul(&Activations::of(&x, 512, Forms::of([kind]), &cpu), &mut out, &cpu);
                assert!(out[..16].iter().all(|number| !number.is_finite()), "{kind:?} {cpu:?} {wrong}");
                assert!(out[16..].iter().all(|number| number.is_finite()), "{kind:?} {cpu:?} {wrong}");
            }
        }
    }
}

#[test]
fn tiny_numbers_are_rounded_to_nothing() {
    let mut draw = Draw(3);
    let weights = Packed::pack(Kind::Q8_0, 16, 64, &draw.blocks(Kind::Q8_0, 16, 64)).unwrap();
    for cpu in cpus() {
        for tiny in [1e-45, 1e-38, 3.7e-37, 3.8e-37] {
            let mut out = vec![f32::NAN; 16];
            weights.matmul(&Activations::of(&[tiny; 64], 64, Forms::of([Kind::Q8_0]), &cpu), &mut out, &cpu);
            assert!(out.iter().all(|number| number.abs() < 1e-30), "{cpu:?} {tiny:e} {out:?}");
        }
    }
}

#[test]
fn rounding_to_bytes_is_off_by_half_a_step() {
    let mut draw = Draw(13);
    let mut numbers: Vec<f32> = (0..4 * 64).map(|_| draw.number()).collect();
    numbers[..32].fill(0.0);
    let mut raw = vec![0; numbers.len() / 32 * 34];
    round_to_bytes(&numbers, &mut raw);
    let packed = Packed::pack(Kind::Q8_0, 4, 64, &raw).unwrap();
    let mut row = [0.0; 64];
    for (at, expected) in numbers.chunks_exact(64).enumerate() {
        packed.unpack(at, &mut row);
        for (found, expected) in row.chunks_exact(32).zip(expected.chunks_exact(32)) {
            let largest = expected.iter().fold(0.0_f32, |largest, number| largest.max(number.abs()));
            // Half a step, and what the scale loses as an `f16`.
            let bound = largest / 254.0 * 1.001 + largest / 2_048.0;
            assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() <= bound));
        }
    }
}

/// Products of bytes are whole numbers up to the same roundings, whatever the vectors' length.
#[test]
fn every_set_with_vectors_gives_the_same_bits() {
    let mut draw = Draw(5);
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_plain()) {
        let weights = Packed::pack(kind, 32, 512, &draw.blocks(kind, 32, 512)).unwrap();
        let x: Vec<f32> = (0..40 * 512).map(|_| draw.number()).collect();
        let product = |isa: Isa| {
            let cpu = Cpu::new(NonZeroUsize::MIN, isa).unwrap();
            let mut out = vec![f32::NAN; 40 * 32];
            weights.matmul(&Activations::of(&x, 512, Forms::of([kind]), &cpu), &mut out, &cpu);
            out
        };
        for isa in Isa::ALL.into_iter().filter(|isa| *isa > Isa::Avx2 && isa.is_here()) {
            assert_eq!(product(isa), product(Isa::Avx2), "{kind:?} {isa}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn odd_shapes_multiply(
        kind in prop::sample::select(Kind::ALL.to_vec()),
        rows in 1..50_usize,
        blocks in 1..12_usize,
        tokens in 1..10_usize,
        seed in any::<u64>(),
    ) {
        check(kind, rows, blocks * kind.block().max(7), tokens, seed);
    }
}
