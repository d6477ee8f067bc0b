//! Products of plain matrices and with transposed packed ones, against `f64`.

use half::bf16;
use hub_kernels::{Kind, Matrix, Number, Packed, dense};
use proptest::prelude::*;

use super::{Draw, cpus};

/// Multiplies in `f64`; the second value is the sum of sizes, which bounds what rounding may do.
fn plain(
    at: usize,
    width: usize,
    depth: usize,
    a: impl Fn(usize) -> f32,
    b: impl Fn(usize) -> f32,
) -> (f64, f64) {
    let (row, col) = (at / width, at % width);
    (0..depth).fold((0.0, 0.0), |(sum, size), k| {
        let product = f64::from(a(row * depth + k)) * f64::from(b(k * width + col));
        (sum + product, size + product.abs())
    })
}

/// Moves a matrix to where its transposed form lies.
fn turned<T: Copy>(values: &[T], rows: usize, cols: usize) -> Vec<T> {
    (0..values.len()).map(|at| values[at % rows * cols + at / rows]).collect()
}

/// Multiplies matrices in every form they can lie in, on every processor.
fn check<T: Number + PartialEq>(
    rows: usize,
    depth: usize,
    cols: usize,
    draw: &mut Draw,
    number: fn(f32) -> T,
) {
    let a: Vec<T> = (0..rows * depth).map(|_| number(draw.number())).collect();
    let b: Vec<T> = (0..depth * cols).map(|_| number(draw.number())).collect();
    let (turned_a, turned_b) = (turned(&a, rows, depth), turned(&b, depth, cols));
    let first = [Matrix::new(&a, rows, depth), Matrix::new(&turned_a, depth, rows).transposed()];
    let second = [Matrix::new(&b, depth, cols), Matrix::new(&turned_b, cols, depth).transposed()];
    for cpu in cpus() {
        let mut all = Vec::new();
        for a in first {
            for b in second {
                let mut out = vec![f32::NAN; rows * cols];
                dense(a, b, &mut out, &cpu);
                all.push(out);
            }
        }
        for (at, found) in all[0].iter().enumerate() {
            let (expected, size) = plain(at, cols, depth, |at| a[at].wide(), |at| b[at].wide());
            let off = (f64::from(*found) - expected).abs();
            assert!(off <= size * 1e-6, "{cpu:?} {rows}x{depth}x{cols}: {found} for {expected}");
        }
        assert!(all.iter().all(|out| *out == all[0]), "{cpu:?}: however they lie, the same bits");
        for row in 0..rows {
            let mut alone = vec![f32::NAN; cols];
            dense(Matrix::new(&a[row * depth..(row + 1) * depth], 1, depth), second[0], &mut alone, &cpu);
            assert_eq!(alone, all[0][row * cols..(row + 1) * cols], "{cpu:?}: alone and among others");
        }
    }
}

#[test]
fn more_rows_and_depth_than_are_gone_through_at_once() {
    check(391, 259, 17, &mut Draw(3), |number| number);
}

#[test]
fn a_depth_of_nothing_is_zero() {
    for cpu in cpus() {
        let mut out = [f32::NAN; 6];
        dense(Matrix::<f32>::new(&[], 2, 0), Matrix::<f32>::new(&[], 0, 3), &mut out, &cpu);
        assert_eq!(out, [0.0; 6]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn odd_shapes_multiply(rows in 1..20_usize, depth in 1..70_usize, cols in 1..90_usize, seed in any::<u64>()) {
        check(rows, depth, cols, &mut Draw(seed), |number| number);
        check(rows, depth, cols, &mut Draw(seed), bf16::from_f32);
    }

    #[test]
    fn gradients_go_through_packed_weights(
        kind in prop::sample::select(Kind::ALL.to_vec()),
        rows in 1..50_usize,
        blocks in 1..12_usize,
        tokens in 1..10_usize,
        seed in any::<u64>(),
    ) {
        let cols = blocks * kind.block().max(7);
        let mut draw = Draw(seed);
        let weights = Packed::pack(kind, rows, cols, &draw.blocks(kind, rows, cols)).unwrap();
        let gradients: Vec<f32> = (0..tokens * rows).map(|_| draw.number()).collect();
        let mut numbers = vec![0.0; rows * cols];
        for (row, out) in numbers.chunks_exact_mut(cols).enumerate() {
            weights.unpack(row, out);
        }
        let mut bits = Vec::new();
        for cpu in cpus() {
            let mut out = vec![f32::NAN; tokens * cols];
            weights.matmul_t(&gradients, &mut out, &cpu);
            for (at, found) in out.iter().enumerate() {
                let (expected, size) = plain(at, cols, rows, |at| gradients[at], |at| numbers[at]);
                prop_assert!((f64::from(*found) - expected).abs() <= size * 1e-6 + 1e-9, "{:?} {:?}", kind, cpu);
            }
            bits.push((cpu.isa(), out));
        }
        for [one, three] in bits.as_chunks().0 {
            prop_assert_eq!(one, three, "one thread and three");
        }
    }
}
