use std::num::NonZeroUsize;

use super::*;
use crate::{Isa, blocks::Block};

/// Draws numbers between -1 and 1: the same for the same seed.
fn draw(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn targets() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| kind.is_target())
}

fn rounded(kind: Kind, numbers: &[f32], cpu: &Cpu) -> Vec<u8> {
    let mut out = vec![0; numbers.len() / kind.block() * kind.block_bytes()];
    quantize(kind, numbers, &mut out, cpu).unwrap();
    out
}

#[test]
fn bytes_are_the_same_with_any_instructions_and_threads() {
    let numbers = draw(1, 3 * PART + 512);
    for kind in targets() {
        let plain = rounded(kind, &numbers, &Cpu::new(NonZeroUsize::MIN, Isa::Portable).unwrap());
        for isa in Isa::ALL {
            let threads = NonZeroUsize::new(3).unwrap();
            assert!(rounded(kind, &numbers, &Cpu::new(threads, isa).unwrap()) == plain, "{kind:?} {isa}");
        }
    }
}

fn unpacked(kind: Kind, raw: &[u8]) -> Vec<f32> {
    let mut block = Block::new();
    block.read(kind, raw);
    let half = |bits| half::f16::from_bits(bits).to_f32();
    let (d, m, group) = (half(block.d), half(block.m), kind.group());
    let number = |at: usize| {
        let scaled = d * f32::from(block.scales[at / group]) * (f32::from(block.q[at]) - kind.zero() as f32);
        scaled - if kind.has_min() { m * f32::from(block.mins[at / group]) } else { 0.0 }
    };
    (0..256).map(number).collect()
}

#[test]
fn blocks_of_one_number_are_that_number() {
    for number in [0.0, 0.3, -0.3, 1e-30, 60_000.0, -60_000.0] {
        for kind in [Kind::Q4K, Kind::Q5K, Kind::Q6K] {
            let raw = rounded(kind, &[number; 256], &Cpu::single());
            let off =
                unpacked(kind, &raw).into_iter().map(|found| (found - number).abs()).fold(0.0, f32::max);
            assert!(off <= number.abs() * 1e-3 + 1e-7, "{kind:?}: off by {off} at {number}");
        }
    }
}

#[test]
fn numbers_that_a_kind_cannot_hold_are_refused() {
    let cpu = Cpu::single();
    for kind in targets() {
        let mut out = vec![0; 256 / kind.block() * kind.block_bytes()];
        for number in [f32::NAN, f32::INFINITY, 70_000.0] {
            let mut numbers = [0.5; 256];
            numbers[200] = number;
            let is_held = number == 70_000.0 && matches!(kind, Kind::F32 | Kind::BF16);
            assert_eq!(quantize(kind, &numbers, &mut out, &cpu).is_ok(), is_held, "{kind:?} {number}");
        }
        assert!(matches!(quantize(kind, &[0.0; 256], &mut [0; 1], &cpu), Err(Error::Length { .. })));
    }
    assert!(matches!(quantize(Kind::Q4K, &[0.0; 128], &mut [], &cpu), Err(Error::Columns { .. })));
    assert!(matches!(quantize(Kind::IQ3S, &[0.0; 256], &mut [0; 110], &cpu), Err(Error::NoTarget { .. })));
}
