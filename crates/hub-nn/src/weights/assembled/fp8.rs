//! FP8: numbers of eight bits, E4M3 or E5M2, and beside them `NAME_scale_inv` or `NAME_scale`, what to multiply with: one
//! for all, one for each matrix of a stack, one for each row, or one for each block of rows and columns.
//!
//! Numbers become F32: with scales of any value, nothing shorter holds every product. Where all scales of a folder are
//! short enough, powers of two above all, BF16 holds them and is taken.
//!
//! Source: Micikevicius et al. 2022, <https://arxiv.org/abs/2209.05433>, and `transformers`'
//! `integrations/finegrained_fp8.py`. Checked against `fixtures/kinds/folders.json`.

use std::ops::Range;

use half::f16;

use super::{
    Assembly, Made, Stored, assembled,
    plain::{is_scale, numbers, write},
};
use crate::weights::{Error, TensorInfo, WeightKind, Weights};

/// What is stored of activations beside weights: how other programs round them.
const OF_ACTIVATIONS: [&str; 3] = ["input_scale", "input_scale_ub", "activation_scale"];

#[derive(Clone, Debug)]
struct Fp8 {
    codes: TensorInfo,
    scales: Option<Scales>,
    /// What numbers become.
    kind: WeightKind,
}

/// Which scale goes with which number.
#[derive(Clone, Debug)]
struct Scales {
    info: TensorInfo,
    /// Rows and columns of a block.
    block: [usize; 2],
    /// Rows and columns of scales that a matrix has.
    grid: [usize; 2],
    /// Rows of a matrix.
    rows: usize,
}

/// Makes one tensor of each that is FP8 and its scales.
pub(super) fn find(stored: &Stored<'_>) -> Result<Made, Error> {
    let mut found = Made::default();
    let mut parts = Vec::new();
    let mut is_short = true;
    for (name, codes) in stored.tensors {
        if !matches!(codes.kind, WeightKind::F8E4M3 | WeightKind::F8E5M2) {
            continue;
        }
        let names = [format!("{name}_scale_inv"), format!("{name}_scale")];
        let scales = match names.iter().find_map(|name| Some((name, stored.get(name)?))) {
            Some((scale, info)) => {
                let scales = Scales::of(stored, codes, scale, info)?;
                stored.each(info, |scales| is_short &= scales.iter().all(|scale| is_short_scale(*scale)))?;
                found.taken.insert(scale.clone());
                Some(scales)
            }
            None => None,
        };
        found.taken.insert(name.clone());
        let module = name.strip_suffix("weight").unwrap_or_default();
        found.taken.extend(OF_ACTIVATIONS.iter().map(|scale| format!("{module}{scale}")));
        parts.push((name, Fp8 { codes: codes.clone(), scales, kind: WeightKind::F32 }));
    }
    let kind = if is_short { WeightKind::BF16 } else { WeightKind::F32 };
    for (name, fp8) in parts {
        let info = assembled(fp8.codes.shape.clone(), kind, Fp8 { kind, ..fp8 })
            .ok_or_else(|| stored.corrupt(format!("tensor `{name}` has impossible shape")))?;
        found.made.push((name.clone(), info));
    }
    Ok(found)
}

/// Whether BF16 holds the product of a scale with every number: eight bits hold four of the one and four of the other,
/// and the exponent stays in range.
fn is_short_scale(scale: f32) -> bool {
    let exponent = scale.to_bits() >> 23 & 255;
    scale.to_bits().trailing_zeros() >= 20 && (32..224).contains(&exponent)
}

impl Scales {
    fn of(stored: &Stored<'_>, codes: &TensorInfo, name: &str, info: &TensorInfo) -> Result<Self, Error> {
        let (stack, [rows, cols]) = match codes.shape.as_slice() {
            [] => (1, [1, 1]),
            [rows] => (1, [*rows, 1]),
            [stack @ .., rows, cols] => (stack.iter().product(), [*rows, *cols]),
        };
        let [block_rows, block_cols] = stored.quantization.fp8_block();
        if block_rows == 0 || block_cols == 0 {
            return Err(stored.corrupt("`weight_block_size` of its configuration is zero"));
        }
        let blocks = [rows.div_ceil(block_rows), cols.div_ceil(block_cols)];
        let of_shape = |shape: &[usize]| info.shape == [leading(codes), shape].concat();
        let found = if info.elements() == 1 {
            // A stack is one matrix of all its rows.
            Some(([rows * stack, cols], [1, 1], rows * stack))
        } else if of_shape(&[rows]) || of_shape(&[rows, 1]) {
            Some(([1, cols], [rows, 1], rows))
        } else if of_shape(&blocks) {
            Some(([block_rows, block_cols], blocks, rows))
        } else if of_shape(&[]) || of_shape(&[1, 1]) {
            Some(([rows, cols], [1, 1], rows))
        } else {
            None
        };
        let found = found.filter(|_| is_scale(info.kind) && info.len > 0 && codes.len > 0);
        let scales = found.map(|(block, grid, rows)| Self { info: info.clone(), block, grid, rows });
        scales.ok_or_else(|| {
            let expected = format!(
                "floating-point scales of {:?}: one, one for each row, or {blocks:?} for blocks of {block_rows} rows \
                 and {block_cols} columns (`weight_block_size`)",
                codes.shape
            );
            stored.misfit(name, info, &expected)
        })
    }

    /// Returns which row of scales a row of numbers has, counted through all matrices.
    fn row(&self, row: usize) -> usize {
        row / self.rows * self.grid[0] + row % self.rows / self.block[0]
    }

    /// Returns the scales of some rows, and the place of the first.
    fn read(&self, weights: &Weights, rows: &Range<usize>) -> Result<(usize, Vec<f32>), Error> {
        let (first, last) = (self.row(rows.start), self.row(rows.end - 1));
        let line = self.info.kind.block_bytes() * self.grid[1];
        let mut bytes = vec![0; (last + 1 - first) * line];
        weights.read_bytes(&self.info, first * line, &mut bytes)?;
        Ok((first, numbers(self.info.kind, &bytes)))
    }
}

/// Returns how many matrices a stack has along each of its axes.
fn leading(codes: &TensorInfo) -> &[usize] {
    codes.shape.len().checked_sub(2).and_then(|len| codes.shape.get(..len)).unwrap_or_default()
}

impl Assembly for Fp8 {
    fn format(&self) -> &'static str {
        if self.codes.kind == WeightKind::F8E5M2 { "FP8 (E5M2)" } else { "FP8 (E4M3)" }
    }

    fn stored_bytes(&self) -> u64 {
        self.codes.bytes() + self.scales.as_ref().map_or(0, |scales| scales.info.bytes())
    }

    fn rows(&self, weights: &Weights, rows: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
        let cols = self.codes.len / self.codes.rows().max(1);
        if rows.is_empty() || cols == 0 {
            return Ok(());
        }
        let mut codes = vec![0; rows.len() * cols];
        weights.read_bytes(&self.codes, rows.start * cols, &mut codes)?;
        let number = if self.codes.kind == WeightKind::F8E5M2 { e5m2 } else { e4m3 };
        let table: Vec<f32> = (0..=255).map(number).collect();
        let size = self.kind.block_bytes();
        let Some(scales) = &self.scales else {
            write(self.kind, codes.iter().map(|code| table[usize::from(*code)]), out);
            return Ok(());
        };
        let (first, values) = scales.read(weights, &rows)?;
        let [_, width] = scales.block;
        for (row, (codes, out)) in rows.zip(codes.chunks_exact(cols).zip(out.chunks_exact_mut(cols * size))) {
            let of_row = &values[(scales.row(row) - first) * scales.grid[1]..];
            let blocks = codes.chunks(width).zip(out.chunks_mut(width * size));
            for ((codes, out), scale) in blocks.zip(of_row) {
                write(self.kind, codes.iter().map(|code| table[usize::from(*code)] * scale), out);
            }
        }
        Ok(())
    }
}

/// One bit of sign, four of an exponent, three of a fraction; no infinity, and one number that is none.
fn e4m3(code: u8) -> f32 {
    let sign = if code >= 128 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    match (exponent, code & 7) {
        (15, 7) => f32::NAN,
        (0, _) => sign * fraction * 2.0_f32.powi(-9),
        _ => sign * (8.0 + fraction) * 2.0_f32.powi(exponent - 10),
    }
}

/// The upper half of an F16.
fn e5m2(code: u8) -> f32 {
    f16::from_bits(u16::from(code) << 8).to_f32()
}
