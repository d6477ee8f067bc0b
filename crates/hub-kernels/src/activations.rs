use crate::{Isa, Kind};

/// Inputs of a product, as bytes: `[tokens, cols]`.
///
/// Each run of 32 or 256 numbers of a token, as the weights' blocks are long, has a scale of its own: the largest
/// becomes 127.
#[derive(Clone, Debug, Default)]
pub struct Activations {
    pub(crate) tokens: usize,
    pub(crate) cols: usize,
    /// Numbers that share a scale.
    pub(crate) block: usize,
    /// How many tokens lie side by side.
    pub(crate) lanes: usize,
    /// `[tokens / lanes, cols / 4, lanes, 4]`
    pub(crate) q: Vec<i8>,
    /// `[tokens / lanes, cols / block, lanes]`
    pub(crate) scales: Vec<f32>,
    /// The sum of each group's bytes: `[tokens / lanes, cols / group, lanes]`.
    pub(crate) sums: Vec<i32>,
    pub(crate) group: usize,
}

/// How many tokens lie side by side where there are several.
pub(crate) const LANES: usize = 4;

impl Activations {
    /// Rounds inputs `x`, `[tokens, cols]`, to bytes, as a product with weights of `kind` takes them.
    ///
    /// # Panics
    /// If `x` does not divide into rows of `cols`, or rows not into blocks.
    pub fn quantize(kind: Kind, x: &[f32], cols: usize, isa: Isa) -> Self {
        let mut all = Self::default();
        all.fill(kind, x, cols, isa);
        all
    }

    /// The same in place: no memory is taken if there was enough before.
    ///
    /// # Panics
    /// As [`quantize`](Self::quantize).
    pub fn fill(&mut self, kind: Kind, x: &[f32], cols: usize, _isa: Isa) {
        let (block, group) = (kind.block(), kind.group());
        assert!(
            cols > 0 && x.len().is_multiple_of(cols) && cols.is_multiple_of(block),
            "{} by {cols}",
            x.len()
        );
        let tokens = x.len() / cols;
        let lanes = if tokens == 1 { 1 } else { LANES };
        let rows = tokens.div_ceil(lanes) * lanes;
        (self.tokens, self.cols, self.block, self.group, self.lanes) = (tokens, cols, block, group, lanes);
        self.q.clear();
        self.q.resize(rows * cols, 0);
        self.scales.clear();
        self.scales.resize(rows * cols / block, 0.0);
        self.sums.clear();
        self.sums.resize(rows * cols / group, 0);
        for (token, row) in x.chunks_exact(cols).enumerate() {
            self.fill_row(token, row);
        }
    }

    fn fill_row(&mut self, token: usize, row: &[f32]) {
        let Self { cols, block, group, lanes, .. } = *self;
        let (panel, lane) = (token / lanes, token % lanes);
        for (at, numbers) in row.chunks_exact(block).enumerate() {
            let largest = numbers.iter().fold(0.0_f32, |most, number| most.max(number.abs()));
            let (scale, factor) = if largest > 0.0 { (largest / 127.0, 127.0 / largest) } else { (0.0, 0.0) };
            self.scales[(panel * cols / block + at) * lanes + lane] = scale;
            for (sub, numbers) in numbers.chunks_exact(group).enumerate() {
                let first = at * block + sub * group;
                let mut sum = 0;
                for (index, number) in numbers.iter().enumerate() {
                    let rounded = (number * factor).round_ties_even() as i8;
                    let col = first + index;
                    self.q[((panel * cols / 4 + col / 4) * lanes + lane) * 4 + col % 4] = rounded;
                    sum += i32::from(rounded);
                }
                self.sums[(panel * cols / group + first / group) * lanes + lane] = sum;
            }
        }
    }

    /// Returns how many rows there are.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}
