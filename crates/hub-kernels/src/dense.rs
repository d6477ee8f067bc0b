//! Products of plain matrices, each where it lies and transposed or not: what training, speech and images stand on.
//!
//! The second matrix is cut into strips of columns, which the threads take one after another. A strip is copied, a
//! stretch of its depth at a time, so that sixteen columns fill a vector and stay in the second-level cache, and meets
//! six rows of the first matrix at a time: twelve sums that fill the registers of AVX2. Where a vector is one register it
//! meets twelve.

use half::bf16;

use crate::{
    Cpu,
    disjoint::Disjoint,
    simd::{LANES, Op, Simd},
};

/// Rows of the first matrix that share a load of the second.
const ROWS: usize = 6;
/// Rows of the first matrix that are laid out at once.
const BLOCK: usize = 64 * ROWS;
/// How much of the depth is gone through at once.
const DEPTH: usize = 256;
/// Vectors of columns in a strip.
const STRIP: usize = 4;

/// A number as matrices hold it; sums are in `f32`.
pub trait Number: Copy + Sync {
    /// Returns it as `f32`, exactly.
    fn wide(self) -> f32;
}

impl Number for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }
}

impl Number for bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self.to_f32()
    }
}

/// A matrix where it lies: `[rows, cols]`, row by row or, transposed, column by column.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    values: &'a [T],
    rows: usize,
    cols: usize,
    is_transposed: bool,
}

impl<'a, T: Number> Matrix<'a, T> {
    /// Takes `values` as `[rows, cols]`, row by row.
    ///
    /// # Panics
    /// If they are more or fewer.
    pub fn new(values: &'a [T], rows: usize, cols: usize) -> Self {
        assert_eq!(Some(values.len()), rows.checked_mul(cols), "values of a matrix of {rows} x {cols}");
        Self { values, rows, cols, is_transposed: false }
    }

    /// Returns `[cols, rows]`, without moving a number.
    pub fn transposed(self) -> Self {
        Self { rows: self.cols, cols: self.rows, is_transposed: !self.is_transposed, ..self }
    }

    /// Copies a part to `to(row, col)`, in the order it lies in.
    #[inline(always)]
    fn copy(
        &self,
        rows: std::ops::Range<usize>,
        cols: std::ops::Range<usize>,
        mut to: impl FnMut(usize, usize, f32),
    ) {
        if self.is_transposed {
            for (at, col) in cols.enumerate() {
                let line = &self.values[col * self.rows..][rows.clone()];
                line.iter().enumerate().for_each(|(row, value)| to(row, at, value.wide()));
            }
        } else {
            for (at, row) in rows.enumerate() {
                let line = &self.values[row * self.cols..][cols.clone()];
                line.iter().enumerate().for_each(|(col, value)| to(at, col, value.wide()));
            }
        }
    }
}

/// Computes `out = a b`: `[a.rows, b.cols]`, with sums in `f32`. A row of the result is bitwise the same alone and among
/// others, and for any number of threads.
///
/// # Panics
/// If shapes do not fit.
pub fn dense<A: Number, B: Number>(a: Matrix<'_, A>, b: Matrix<'_, B>, out: &mut [f32], cpu: &Cpu) {
    let (rows, depth, cols) = (a.rows, a.cols, b.cols);
    assert!(depth == b.rows && out.len() == rows * cols, "{rows} x {depth} by {} x {cols}", b.rows);
    out.fill(0.0);
    let mut panels = vec![[0.0; ROWS]; BLOCK.min(rows.next_multiple_of(ROWS)) / ROWS * depth];
    let out = Disjoint::new(out);
    for first in (0..rows).step_by(BLOCK) {
        let count = BLOCK.min(rows - first);
        let panels = &mut panels[..count.div_ceil(ROWS) * depth];
        cpu.each_chunk(panels, depth.max(1), |panel, to| {
            let start = first + panel * ROWS;
            a.copy(start..(start + ROWS).min(rows), 0..depth, |row, col, value| to[col][row] = value);
        });
        let panels = &*panels;
        cpu.run(cols.div_ceil(STRIP * LANES), |_, strip| {
            let job = Strip { panels, depth, rows: first..first + count, b: &b, strip, out: &out };
            cpu.isa().run(job);
        });
    }
}

/// A strip of columns for some rows.
struct Strip<'a, B> {
    /// `[rows / ROWS, depth]`
    panels: &'a [[f32; ROWS]],
    depth: usize,
    rows: std::ops::Range<usize>,
    b: &'a Matrix<'a, B>,
    strip: usize,
    out: &'a Disjoint<'a, f32>,
}

impl<B: Number> Op for Strip<'_, B> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { panels, depth, ref rows, b, strip, .. } = self;
        let start = strip * STRIP * LANES;
        let columns = start..(start + STRIP * LANES).min(b.cols);
        let mut wide = [[[0.0; LANES]; DEPTH]; STRIP];
        for from in (0..depth).step_by(DEPTH) {
            let deep = from..(from + DEPTH).min(depth);
            b.copy(deep.clone(), columns.clone(), |at, col, value| {
                wide[col / LANES][at][col % LANES] = value
            });
            let together = if S::IS_WIDE { 2 } else { 1 };
            for (index, panels) in panels.chunks(together * depth).enumerate() {
                let first = rows.start + index * together * ROWS;
                for (vector, wide) in wide[..columns.len().div_ceil(LANES)].iter().enumerate() {
                    let first_column = start + vector * LANES;
                    let place = Place {
                        rows: first..(first + together * ROWS).min(rows.end),
                        columns: first_column..(first_column + LANES).min(columns.end),
                        width: b.cols,
                    };
                    let wide = &wide[..deep.len()];
                    match panels.split_at_checked(depth) {
                        Some((one, two)) if !two.is_empty() => {
                            let x = [&one[deep.clone()], &two[deep.clone()]];
                            self.add::<S, { 2 * ROWS }, 2>(simd, wide, x, &place);
                        }
                        _ => self.add::<S, ROWS, 1>(simd, wide, [&panels[deep.clone()]], &place),
                    }
                }
            }
        }
    }
}

/// Where sums belong in the result.
struct Place {
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    width: usize,
}

impl<B> Strip<'_, B> {
    #[inline(always)]
    fn add<S: Simd, const T: usize, const P: usize>(
        &self,
        simd: S,
        columns: &[[f32; LANES]],
        x: [&[[f32; ROWS]]; P],
        place: &Place,
    ) {
        let line =
            |row: usize| row * place.width + place.columns.start..row * place.width + place.columns.end;
        let mut sums = [[0.0; LANES]; T];
        for (row, sums) in place.rows.clone().zip(&mut sums) {
            #[expect(unsafe_code, reason = "threads write columns of one matrix")]
            // SAFETY: a strip is one part, and strips are different columns.
            let out = unsafe { self.out.part(line(row)) };
            sums[..out.len()].copy_from_slice(out);
        }
        multiply::<S, _, T, 0, ROWS, P>(simd, columns, wide, x, &mut sums);
        for (row, sums) in place.rows.clone().zip(&sums) {
            #[expect(unsafe_code, reason = "threads write columns of one matrix")]
            // SAFETY: a strip is one part, and strips are different columns.
            let out = unsafe { self.out.part(line(row)) };
            out.copy_from_slice(&sums[..out.len()]);
        }
    }
}

/// Adds products of 16 columns, which `load` brings, with `T` rows to `sums`. Rows lie side by side, `N` to a panel;
/// the first is the `FROM`th.
#[inline(always)]
pub(crate) fn multiply<S: Simd, V, const T: usize, const FROM: usize, const N: usize, const P: usize>(
    simd: S,
    columns: &[V],
    load: impl Fn(S, &V) -> S::F,
    x: [&[[f32; N]]; P],
    sums: &mut [[f32; LANES]; T],
) {
    let mut all = [simd.splat(0.0); T];
    for (all, sums) in all.iter_mut().zip(&*sums) {
        *all = simd.load(sums);
    }
    // A closure would not be compiled with the instructions of `S`.
    macro_rules! add {
        ($column:expr, $x:expr) => {
            let column = load(simd, $column);
            for row in 0..T {
                let x = $x[(FROM + row) / N][(FROM + row) % N];
                all[row] = simd.fma(column, simd.splat(x), all[row]);
            }
        };
    }
    // Two at a time: with one, the jump back costs a sixth of the time on Zen 3.
    let (pairs, last) = columns.as_chunks::<2>();
    let x_pairs = x.map(|x| &x.as_chunks::<2>().0[..pairs.len()]);
    for at in 0..pairs.len() {
        add!(&pairs[at][0], x_pairs.map(|x| &x[at][0]));
        add!(&pairs[at][1], x_pairs.map(|x| &x[at][1]));
    }
    if let [column] = last {
        add!(column, x.map(|x| &x[columns.len() - 1]));
    }
    for (sums, all) in sums.iter_mut().zip(all) {
        simd.store(all, sums);
    }
}

/// Loads what is as wide as it is multiplied.
#[inline(always)]
pub(crate) fn wide<S: Simd>(simd: S, column: &[f32; LANES]) -> S::F {
    simd.load(column)
}
