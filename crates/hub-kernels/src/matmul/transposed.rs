//! Products with the transposed matrix: the gradient of a product's inputs, from the packed weights themselves.

use std::ops::Range;

use crate::{
    Cpu, Packed, TILE,
    dense::{self, multiply},
    disjoint::Disjoint,
    packed::unpack_tile,
    simd::{LANES, Op, Simd},
};

/// Rows of gradients that share a load of weights.
const ROWS: usize = 4;
/// Columns of a part: a whole block of any kind.
const COLUMNS: usize = 256;

impl Packed {
    /// Computes `out = gradients W`: `[tokens, cols]` from `[tokens, rows]`. Weights are taken as `f32`, and nothing is
    /// rounded: a gradient has no range that bytes could share.
    ///
    /// # Panics
    /// If shapes do not fit.
    pub fn matmul_t(&self, gradients: &[f32], out: &mut [f32], cpu: &Cpu) {
        let (rows, cols) = (self.rows(), self.cols());
        let tokens = gradients.len() / rows.max(1);
        let fits = gradients.len() == tokens * rows && out.len() == tokens * cols;
        assert!(fits, "{} numbers by {rows} x {cols} into {}", gradients.len(), out.len());
        let mut panels = vec![[0.0; ROWS]; tokens.div_ceil(ROWS) * rows];
        cpu.each_chunk(&mut panels, rows.max(1), |panel, to| {
            let from = gradients[panel * ROWS * rows..].chunks_exact(rows).take(ROWS);
            for (token, from) in from.enumerate() {
                to.iter_mut().zip(from).for_each(|(to, from)| to[token] = *from);
            }
        });
        let out = Disjoint::new(out);
        let panels = &panels;
        cpu.run(cols.div_ceil(COLUMNS), |_, part| {
            let columns = part * COLUMNS..((part + 1) * COLUMNS).min(cols);
            cpu.isa().run(Columns { weights: self, panels, columns, tokens, out: &out });
        });
    }
}

/// Some columns of the result, of all tokens.
struct Columns<'a> {
    weights: &'a Packed,
    /// `[tokens / ROWS, rows]`
    panels: &'a [[f32; ROWS]],
    columns: Range<usize>,
    tokens: usize,
    out: &'a Disjoint<'a, f32>,
}

impl Op for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { weights, panels, columns, tokens, out } = self;
        let vectors = columns.len().div_ceil(LANES);
        let mut sums = vec![[[0.0; LANES]; ROWS]; tokens.div_ceil(ROWS) * vectors];
        let mut numbers = [[0.0; COLUMNS]; TILE];
        let mut wide = [[[0.0; LANES]; TILE]; COLUMNS / LANES];
        for tile in 0..weights.tiles() {
            unpack_tile(weights, tile, columns.clone(), &mut numbers);
            for (row, numbers) in numbers.iter().enumerate() {
                for (wide, numbers) in wide.iter_mut().zip(numbers.as_chunks().0) {
                    wide[row] = *numbers;
                }
            }
            let rows = tile * TILE..((tile + 1) * TILE).min(weights.rows());
            for (panel, sums) in panels.chunks_exact(weights.rows()).zip(sums.chunks_exact_mut(vectors)) {
                for (wide, sums) in wide.iter().zip(sums) {
                    multiply::<S, _, ROWS, 0, ROWS, 1>(
                        simd,
                        &wide[..rows.len()],
                        dense::wide,
                        [&panel[rows.clone()]],
                        sums,
                    );
                }
            }
        }
        for token in 0..tokens {
            let start = token * weights.cols();
            #[expect(unsafe_code, reason = "threads write columns of one matrix")]
            // SAFETY: a part is some columns, and parts are different ones.
            let out = unsafe { out.part(start + columns.start..start + columns.end) };
            let sums = &sums[token / ROWS * vectors..];
            for (out, sums) in out.chunks_mut(LANES).zip(sums) {
                out.copy_from_slice(&sums[token % ROWS][..out.len()]);
            }
        }
    }
}
