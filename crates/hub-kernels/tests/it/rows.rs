//! What is done to single rows, against the same in `f64`.

use hub_kernels::{
    Function, Isa, SCORES, gate, layer_norm, rms_norm, rotate_halves, rotate_pairs, softmax_sums,
    softmax_weights,
};

use super::Draw;

/// Lengths around the sixteen numbers that are worked on at once.
const LENGTHS: [usize; 6] = [1, 15, 16, 17, 64, 331];

fn isas() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_here())
}

fn draw(len: usize, seed: u64) -> Vec<f32> {
    let mut draw = Draw(seed);
    (0..len).map(|_| draw.number() * 3.0).collect()
}

#[track_caller]
fn assert_close(found: &[f32], expected: impl Iterator<Item = f64>) {
    for (found, expected) in found.iter().zip(expected) {
        let off = (f64::from(*found) - expected).abs();
        assert!(off <= 2e-6 * expected.abs().max(1.0), "{found} for {expected}");
    }
}

#[test]
fn norms_are_those_of_f64() {
    for len in LENGTHS {
        let (row, weight, bias) = (draw(len, 1), draw(len, 2), draw(len, 3));
        let wide = |row: &[f32]| row.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        let (wide_row, wide_weight, wide_bias) = (wide(&row), wide(&weight), wide(&bias));
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        let square = |x: &[f64]| mean(&x.iter().map(|x| x * x).collect::<Vec<_>>());
        for isa in isas() {
            let mut found = row.clone();
            rms_norm(&mut found, &weight, 1e-3, isa);
            let root = (square(&wide_row) + 1e-3).sqrt();
            assert_close(&found, wide_row.iter().zip(&wide_weight).map(|(x, w)| x / root * w));

            let mut found = row.clone();
            layer_norm(&mut found, &weight, &bias, 1e-3, isa);
            let centre = mean(&wide_row);
            let distances: Vec<f64> = wide_row.iter().map(|x| x - centre).collect();
            let root = (square(&distances) + 1e-3).sqrt();
            let scaled = distances.iter().zip(&wide_weight).map(|(x, w)| x / root * w);
            assert_close(&found, scaled.zip(&wide_bias).map(|(x, b)| x + b));
        }
    }
}

#[test]
fn gates_are_those_of_f64() {
    /// The Taylor series of the error function.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }
    type Plain = fn(f64) -> f64;
    let functions: [(Function, Plain); 5] = [
        (Function::Silu, |x| x / (1.0 + (-x).exp())),
        (Function::Gelu, |x| x * 0.5 * (1.0 + erf(x / 2.0_f64.sqrt()))),
        (Function::GeluTanh, |x| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            x * 0.5 * (1.0 + inner.tanh())
        }),
        (Function::Relu, |x| x.max(0.0)),
        (Function::Tanh, f64::tanh),
    ];
    for len in LENGTHS {
        let (row, by) = (draw(len, 4), draw(len, 5));
        for isa in isas() {
            for (function, expected) in functions {
                let mut found = row.clone();
                gate(function, &mut found, &by, isa);
                let expected = row.iter().zip(&by).map(|(x, by)| expected(f64::from(*x)) * f64::from(*by));
                assert_close(&found, expected);
            }
        }
    }
}

#[test]
fn a_turn_keeps_lengths_and_pairs() {
    let pairs = 11;
    let angles: Vec<f32> = draw(pairs, 6);
    let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|angle| (angle.cos(), angle.sin())).unzip();
    let head = draw(2 * pairs + 3, 7);
    let expected = |low: usize, high: usize, pair: usize| {
        let (a, b, angle) = (f64::from(head[low]), f64::from(head[high]), f64::from(angles[pair]));
        [a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()]
    };
    let rest = head[2 * pairs..].iter().map(|x| f64::from(*x));
    let mut found = head.clone();
    rotate_pairs(&mut found, &cos, &sin);
    assert_close(&found, (0..pairs).flat_map(|i| expected(2 * i, 2 * i + 1, i)).chain(rest.clone()));
    for isa in isas() {
        let mut found = head.clone();
        rotate_halves(&mut found, &cos, &sin, isa);
        let turned: Vec<[f64; 2]> = (0..pairs).map(|i| expected(i, i + pairs, i)).collect();
        let halves = turned.iter().map(|pair| pair[0]).chain(turned.iter().map(|pair| pair[1]));
        assert_close(&found, halves.chain(rest.clone()));
    }
}

#[test]
fn weights_of_scores_are_those_of_f64() {
    for len in [1, 15, 16, 17, 1023, 1024, 1025, 5000] {
        let mut scores: Vec<f32> = draw(len, 7).iter().map(|score| score * 9.0).collect();
        scores[len / 2] = f32::NEG_INFINITY;
        let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if max == f32::NEG_INFINITY {
            continue;
        }
        for isa in isas() {
            let mut weights = scores.clone();
            softmax_weights(&mut weights, max, 0.7, isa);
            let expected = |score: f32| ((f64::from(score) - f64::from(max)) / f64::from(0.7_f32)).exp();
            for (weight, score) in weights.iter().zip(&scores) {
                let expected = expected(*score);
                // The exponent is rounded before it is used.
                assert!(
                    (f64::from(*weight) - expected).abs() <= 1e-5 * expected + 2e-38,
                    "{weight} {expected}"
                );
            }
            assert_eq!(weights[len / 2], 0.0, "what is forbidden weighs nothing");
            let mut sums = vec![1.0; 3];
            softmax_sums(&scores, max, 0.7, &mut sums, isa);
            assert_eq!(sums.len(), len.div_ceil(SCORES));
            for (sum, weights) in sums.iter().zip(weights.chunks(SCORES)) {
                let expected: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
                assert!((f64::from(*sum) - expected).abs() <= 1e-6 * expected);
            }
        }
    }
}
