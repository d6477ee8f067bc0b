use hub_nn::executor::{Cost, Work};

use crate::bench::Limits;

/// The fastest that a model could run on a device: weights read once a step at the speed of memory, or multiplied at
/// the speed of arithmetic, whichever takes longer. What attention adds to long sequences is left out.
pub(super) struct Bound {
    pub(super) limits: Limits,
    pub(super) work: Work,
}

impl Bound {
    /// Returns tokens a second of a step with `rows` rows, of which `results` go through the head.
    pub(super) fn tokens_per_s(&self, rows: usize, results: usize) -> f64 {
        let Limits { read_bytes_per_s, ops_per_s, byte_ops_per_s } = self.limits;
        let Work { body, head, experts, expert_share, .. } = self.work;
        // Rows that choose by themselves read so much of all experts in the mean.
        let chosen = 1.0 - (1.0 - expert_share).powf(rows as f64);
        let bytes = (body.weight_bytes + head.weight_bytes) as f64 + chosen * experts.weight_bytes as f64;
        let read = bytes / read_bytes_per_s.median.max(1.0);
        let arithmetic = |cost: Cost, rows: usize| {
            let bytes = cost.byte_products as f64 / byte_ops_per_s.median.max(1.0);
            let floats = cost.float_products as f64 / ops_per_s.median.max(1.0);
            // A product is a multiplication and an addition.
            2.0 * rows as f64 * (bytes + floats)
        };
        let multiply =
            arithmetic(body, rows) + arithmetic(head, results) + expert_share * arithmetic(experts, rows);
        rows as f64 / read.max(multiply).max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Spread;

    #[test]
    fn a_few_rows_wait_for_memory_and_many_for_arithmetic() {
        let spread = |median: f64| Spread::of(vec![median]);
        let limits =
            Limits { read_bytes_per_s: spread(1e9), ops_per_s: spread(1e9), byte_ops_per_s: spread(8e9) };
        let mut work = Work::default();
        (work.body.weight_bytes, work.body.byte_products) = (80_000_000, 100_000_000);
        (work.head.weight_bytes, work.head.float_products) = (20_000_000, 5_000_000);
        let bound = Bound { limits, work };
        let is = |rows, results, expected: f64| {
            assert!((bound.tokens_per_s(rows, results) - expected).abs() < 1e-6, "{rows} rows");
        };
        // 0.1 s to read everything; 0.025 s a row to multiply with the body, and 0.01 s a result.
        is(1, 1, 10.0);
        is(2, 2, 20.0);
        is(100, 1, 100.0 / 2.51);

        // A quarter of the experts is read for a row, 7 of 16 for two that choose by themselves.
        work.expert_share = 0.25;
        work.experts.weight_bytes = 400_000_000;
        let bound = Bound { limits: bound.limits, work };
        assert!((bound.tokens_per_s(1, 1) - 5.0).abs() < 1e-6);
        assert!((bound.tokens_per_s(2, 2) - 2.0 / 0.275).abs() < 1e-6);
    }
}
