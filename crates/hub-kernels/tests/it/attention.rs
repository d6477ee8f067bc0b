//! Attention over blocks against softmax written out in `f64`.

use hub_kernels::{Attention, BLOCK, KvBlock, KvKind, KvShape, Scratch, Sequence};
use proptest::prelude::*;

use super::{Draw, cpus};

/// What is attended to, and by whom: the first `before` rows are cached, the others attend.
#[derive(Clone, Debug)]
struct Case {
    attention: Attention,
    before: usize,
    count: usize,
    seed: u64,
}

struct Rows {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Case {
    fn rows(&self) -> Rows {
        let mut draw = Draw(self.seed);
        let &Attention { heads, kv_heads, head_dim, value_dim, .. } = &self.attention;
        let all = self.before + self.count;
        let mut numbers = |width: usize| (0..all * width).map(|_| draw.number() * 2.0).collect();
        let widths = [heads * head_dim, kv_heads * head_dim, kv_heads * value_dim];
        let [queries, keys, values] = widths.map(&mut numbers);
        Rows { queries, keys, values }
    }

    /// Computes the rows after `before` as the formula says.
    fn expected(&self, rows: &Rows) -> Vec<f64> {
        let &Attention {
            heads, kv_heads, head_dim: dim, value_dim, scale, soft_cap, window, is_causal, ..
        } = &self.attention;
        let all = self.before + self.count;
        let mut out = Vec::new();
        for row in self.before..all {
            let behind = if is_causal { 1 } else { window.unwrap_or(all) };
            let (first, end) =
                (window.map_or(0, |window| (row + 1).saturating_sub(window)), (row + behind).min(all));
            for head in 0..heads {
                let kv = head / (heads / kv_heads);
                let key = |at: usize| &rows.keys[(at * kv_heads + kv) * dim..][..dim];
                let query = &rows.queries[(row * heads + head) * dim..][..dim];
                let score = |at: usize| {
                    let dot: f64 =
                        query.iter().zip(key(at)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    let score = dot * f64::from(scale);
                    soft_cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
                };
                let weights: Vec<f64> = (first..end).map(|at| score(at).exp()).collect();
                let sink = self.attention.sinks.get(head).map_or(0.0, |sink| f64::from(*sink).exp());
                let sum: f64 = weights.iter().sum::<f64>() + sink;
                out.extend((0..value_dim).map(|index| {
                    let value = |at: usize| f64::from(rows.values[(at * kv_heads + kv) * value_dim + index]);
                    weights.iter().zip(first..).map(|(weight, at)| weight * value(at)).sum::<f64>() / sum
                }));
            }
        }
        out
    }

    /// Caches the first rows, and lets the others attend in steps of at most `step`.
    fn computed(&self, rows: &Rows, kind: KvKind, step: usize, cpu: &hub_kernels::Cpu) -> Vec<f32> {
        let &Attention { heads, kv_heads, head_dim, value_dim, .. } = &self.attention;
        let width = heads * head_dim;
        let shape = KvShape { heads: kv_heads, key_dim: head_dim, value_dim };
        let all = self.before + self.count;
        let owned: Vec<_> = (0..all.div_ceil(BLOCK)).map(|_| KvBlock::new(kind, 2, shape)).collect();
        let blocks: Vec<&KvBlock> = owned.iter().collect();
        let sequence =
            |position, count| [Sequence { start: 0, count, position, blocks: &blocks, dropped: 0 }];
        let write = |from: usize, count: usize| {
            let part = |numbers| from * kv_heads * numbers..(from + count) * kv_heads * numbers;
            let (keys, values) = (&rows.keys[part(head_dim)], &rows.values[part(value_dim)]);
            self.attention.write(keys, values, &sequence(from, count), 1, cpu);
        };
        write(0, self.before);
        let (mut out, mut scratch) = (Vec::new(), Scratch::default());
        for from in (self.before..all).step_by(step) {
            let count = step.min(all - from);
            write(from, count);
            let queries = &rows.queries[from * width..(from + count) * width];
            let mut mixed = vec![f32::NAN; count * heads * value_dim];
            self.attention.attend(queries, &sequence(from, count), 1, &mut mixed, &mut scratch, cpu);
            out.extend(mixed);
        }
        out
    }

    fn check(&self) {
        let rows = self.rows();
        let expected = self.expected(&rows);
        for cpu in cpus() {
            for (kind, bound) in [(KvKind::F32, 2e-5), (KvKind::F16, 1e-2), (KvKind::Q8, 0.25)] {
                let whole = self.computed(&rows, kind, self.count, &cpu);
                for (found, expected) in whole.iter().zip(&expected) {
                    let off = (f64::from(*found) - expected).abs();
                    assert!(off <= bound, "{kind:?} {cpu:?} {self:?}: {found} for {expected}");
                }
                // Rows that see each other only backwards can come one after another.
                if self.attention.is_causal {
                    assert_eq!(whole, self.computed(&rows, kind, 1, &cpu), "{kind:?} {cpu:?}: bit for bit");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn odd_shapes_attend(
        kv_heads in 1..4_usize,
        group in 1..6_usize,
        head_dim in 1..70_usize,
        value_dim in prop::option::of(1..70_usize),
        before in 0..300_usize,
        count in 1..40_usize,
        more in 0..600_usize,
        window in prop::option::of(1..200_usize),
        soft_cap in prop::option::of(1.0..30.0_f32),
        is_causal in any::<bool>(),
        has_sinks in any::<bool>(),
        seed in any::<u64>(),
    ) {
        // Encoders see all rows of the step, which then begins at the first position.
        let (before, count) = if is_causal { (before, count) } else { (0, count + more) };
        let scale = 1.0 / (head_dim as f32).sqrt();
        let heads = kv_heads * group;
        let sinks = (0..if has_sinks { heads } else { 0 }).map(|head| head as f32 - 1.5).collect();
        let value_dim = value_dim.unwrap_or(head_dim);
        let attention =
            Attention { heads, kv_heads, head_dim, value_dim, scale, soft_cap, window, is_causal, sinks };
        Case { attention, before, count, seed }.check();
    }
}

/// What is not a number must not come out as one, in whatever form keys and values are kept.
#[test]
fn what_is_not_a_number_stays_so() {
    let attention = Attention {
        heads: 2,
        kv_heads: 1,
        head_dim: 20,
        value_dim: 20,
        scale: 0.2,
        soft_cap: Some(5.0),
        window: None,
        is_causal: true,
        sinks: vec![0.5, -0.5],
    };
    let case = Case { attention, before: 5, count: 3, seed: 1 };
    for cpu in cpus() {
        for kind in [KvKind::F32, KvKind::F16, KvKind::Q8] {
            for spoil in
                [|rows: &mut Rows| rows.keys[21] = f32::NAN, |rows: &mut Rows| rows.values[39] = f32::NAN]
            {
                let mut rows = case.rows();
                spoil(&mut rows);
                let out = case.computed(&rows, kind, 3, &cpu);
                let has_nan = |row: &[f32]| row.iter().any(|number| number.is_nan());
                assert!(out.chunks(20).all(has_nan), "{kind:?} {cpu:?} {out:?}");
            }
        }
    }
}
