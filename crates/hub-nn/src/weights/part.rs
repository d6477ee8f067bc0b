//! Reading the parts of tensors that specifications name.

use std::ops::Range;

use super::{Error, RawTensor, TensorInfo, Weights};
use crate::spec::{Axis, Rows, TensorRef};

/// Columns are read with what lies between them while that is at most so many times as much.
const WINDOW: usize = 8;

impl Weights {
    /// Returns how many rows a part has, and how many numbers a row has.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no such tensor, [`Error::Rows`] if it does not have them.
    pub fn part_shape(&self, part: &TensorRef) -> Result<(usize, usize), Error> {
        let info = self.find(&part.name)?;
        let (all, width) = match (part.axis, info.shape.as_slice()) {
            (Axis::Whole, _) => (1, info.elements()),
            (Axis::Numbers, _) | (_, [_] | []) => (info.elements(), 1),
            (Axis::Rows, [.., width]) => (info.rows(), *width),
            (Axis::Columns, [rest @ .., inputs, outputs]) => {
                (rest.iter().product::<usize>() * outputs, *inputs)
            }
        };
        match part.rows {
            Some(rows) if rows.end() > all => Err(refused(part, info)),
            Some(rows) => Ok((rows.total(), width)),
            None => Ok((all, width)),
        }
    }

    /// Reads a part: `[rows, width]`, or `[numbers]` of a vector and of single numbers.
    ///
    /// # Errors
    /// As [`Weights::part_shape`]; [`Error::Read`] if its file cannot be read any more.
    pub fn read_part(&self, part: &TensorRef) -> Result<RawTensor, Error> {
        let info = self.find(&part.name)?;
        if part.rows.is_none() && part.axis == Axis::Rows {
            let mut raw = self.read(&part.name)?;
            if let [rest @ .., width] = info.shape.as_slice()
                && rest.len() > 1
            {
                raw.shape = vec![rest.iter().product(), *width];
            }
            return Ok(raw);
        }
        let (rows, _) = self.part_shape(part)?;
        self.read_part_rows(part, 0..rows)
    }

    /// Reads some rows of a part.
    ///
    /// # Errors
    /// As [`Weights::read_part_rows_into`].
    pub fn read_part_rows(&self, part: &TensorRef, rows: Range<usize>) -> Result<RawTensor, Error> {
        let info = self.find(&part.name)?;
        let (_, width) = self.part_shape(part)?;
        let is_vector = part.axis == Axis::Numbers || (info.shape.len() < 2 && part.axis != Axis::Whole);
        let shape = if is_vector { vec![rows.len()] } else { vec![rows.len(), width] };
        let bytes = info.kind.bytes_of(&shape).ok_or_else(|| refused(part, info))?;
        let mut out = Vec::new();
        out.try_reserve_exact(bytes).map_err(|_| refused(part, info))?;
        out.resize(bytes, 0);
        self.read_part_rows_into(part, rows, &mut out)?;
        Ok(RawTensor { shape, kind: info.kind, bytes: out })
    }

    /// Fills `out` with some rows of a part, as they are stored.
    ///
    /// # Errors
    /// As [`Weights::read_part`]; [`Error::Rows`] as well if `out` is not as long as those rows, or if columns or single
    /// numbers are asked for of a kind that holds them in blocks.
    pub fn read_part_rows_into(
        &self,
        part: &TensorRef,
        rows: Range<usize>,
        out: &mut [u8],
    ) -> Result<(), Error> {
        let info = self.find(&part.name)?;
        let (all, width) = self.part_shape(part)?;
        let row_bytes = info.kind.bytes_of(&[width]);
        let row_bytes =
            row_bytes.filter(|_| matches!(part.axis, Axis::Rows | Axis::Whole) || !info.kind.is_quantized());
        let row_bytes = row_bytes.ok_or_else(|| refused(part, info))?;
        if rows.start > rows.end || rows.end > all || out.len() != rows.len() * row_bytes {
            return Err(Error::Rows { name: part.name.clone(), rows: all, asked: rows });
        }
        let runs = part.rows.unwrap_or_else(|| Rows::from(0..all)).runs(rows);
        let mut at = 0;
        for run in runs {
            let out = &mut out[at..at + run.len() * row_bytes];
            at += out.len();
            match part.axis {
                Axis::Rows => self.read_rows_into(&part.name, run, out)?,
                // A number of a vector is a row of it.
                Axis::Numbers if info.shape.len() == 1 => self.read_rows_into(&part.name, run, out)?,
                Axis::Whole => self.read_rows_into(&part.name, 0..info.rows(), out)?,
                Axis::Numbers | Axis::Columns if info.assembly.is_some() => return Err(refused(part, info)),
                Axis::Numbers => self.read_bytes(info, run.start * row_bytes, out)?,
                Axis::Columns => self.read_columns(info, run, row_bytes, out)?,
            }
        }
        Ok(())
    }

    /// Reads columns that follow each other, counted through all matrices of a stack, each as a row.
    fn read_columns(
        &self,
        info: &TensorInfo,
        columns: Range<usize>,
        row_bytes: usize,
        out: &mut [u8],
    ) -> Result<(), Error> {
        let [.., inputs, outputs] = info.shape[..] else { return Ok(()) };
        let number = row_bytes / inputs.max(1);
        let mut at = columns.start;
        let mut window = Vec::new();
        while at < columns.end {
            let (matrix, first) = (at / outputs, at % outputs);
            let count = (outputs - first).min(columns.end - at);
            let out = &mut out[(at - columns.start) * row_bytes..][..count * row_bytes];
            // Few of many columns are read row by row, most of them at once.
            let (skip, width) = if count * WINDOW < outputs { (first, count) } else { (0, outputs) };
            window.resize(inputs * width * number, 0);
            let start = matrix * inputs * outputs;
            if width == outputs {
                self.read_bytes(info, start * number, &mut window)?;
            } else {
                for (input, window) in window.chunks_exact_mut(width * number).enumerate() {
                    self.read_bytes(info, (start + input * outputs + skip) * number, window)?;
                }
            }
            for (column, out) in out.chunks_exact_mut(row_bytes).enumerate() {
                let from = (first - skip + column) * number;
                for (out, row) in out.chunks_exact_mut(number).zip(window.chunks_exact(width * number)) {
                    out.copy_from_slice(&row[from..from + number]);
                }
            }
            at += count;
        }
        Ok(())
    }
}

fn refused(part: &TensorRef, info: &TensorInfo) -> Error {
    let asked = part.rows.map_or(0..info.rows(), |rows| rows.start..rows.end());
    Error::Rows { name: part.name.clone(), rows: info.rows(), asked }
}
