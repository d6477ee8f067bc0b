use std::ops::Range;

/// A tensor of the files, or a part of one.
///
/// Parts let one fused tensor (Phi-3's `qkv_proj`) serve several matrices of a layer. A stack of matrices, as of experts,
/// counts as one with all their rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorRef {
    /// Its name in the files.
    pub name: String,
    /// The rows that are meant; all of them if `None`.
    pub rows: Option<Rows>,
    /// What counts as a row.
    pub axis: Axis,
}

/// What counts as a row of a tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Axis {
    /// A row of a matrix, or of a stack of matrices; a number of a vector.
    #[default]
    Rows,
    /// A column of a matrix, or of a stack of matrices: files hold it turned over, `[.., inputs, outputs]`.
    Columns,
    /// A single number, whatever the shape.
    Numbers,
    /// The whole tensor: a matrix with one row, which some files hold as a vector.
    Whole,
}

/// Some rows: `count` runs of `len` after another, each `step` rows after the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rows {
    /// The first of them.
    pub start: usize,
    /// How many follow each other.
    pub len: usize,
    /// From the beginning of a run to that of the next.
    pub step: usize,
    /// How many runs there are.
    pub count: usize,
}

impl TensorRef {
    /// Names a whole tensor.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), rows: None, axis: Axis::Rows }
    }

    /// Names rows of a tensor.
    pub fn rows(name: impl Into<String>, rows: impl Into<Rows>) -> Self {
        Self { rows: Some(rows.into()), ..Self::new(name) }
    }

    /// Names columns of a tensor, which become rows.
    pub fn columns(name: impl Into<String>, columns: impl Into<Rows>) -> Self {
        Self { axis: Axis::Columns, ..Self::rows(name, columns) }
    }

    /// Names a tensor that is one row as a whole.
    pub fn whole(name: impl Into<String>) -> Self {
        Self { axis: Axis::Whole, ..Self::new(name) }
    }

    /// Names numbers of a tensor, counted through all its axes.
    pub fn numbers(name: impl Into<String>, numbers: impl Into<Rows>) -> Self {
        Self { axis: Axis::Numbers, ..Self::rows(name, numbers) }
    }
}

impl From<Range<usize>> for Rows {
    fn from(range: Range<usize>) -> Self {
        let len = range.end.saturating_sub(range.start);
        Self { start: range.start, len, step: len, count: 1 }
    }
}

impl Rows {
    /// Returns how many there are.
    pub fn total(&self) -> usize {
        self.len.saturating_mul(self.count)
    }

    /// Returns one past the last of them.
    pub fn end(&self) -> usize {
        let last = self.step.saturating_mul(self.count.saturating_sub(1));
        self.start.saturating_add(last).saturating_add(self.len)
    }

    /// Iterates over the runs that the rows `part` of these lie in, each with where it lies among all rows.
    pub fn runs(self, part: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let mut at = part.start;
        std::iter::from_fn(move || {
            if at >= part.end || self.len == 0 {
                return None;
            }
            let (run, within) = (at / self.len, at % self.len);
            let count = (self.len - within).min(part.end - at);
            let start = self.start + run * self.step + within;
            at += count;
            Some(start..start + count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_cut_to_the_rows_that_are_asked_for() {
        let rows = Rows { start: 10, len: 3, step: 8, count: 4 };
        assert_eq!((rows.total(), rows.end()), (12, 37));
        assert_eq!(rows.runs(0..12).collect::<Vec<_>>(), [10..13, 18..21, 26..29, 34..37]);
        assert_eq!(rows.runs(2..7).collect::<Vec<_>>(), [12..13, 18..21, 26..27]);
        assert!(Rows::from(4..9).runs(1..3).eq(std::iter::once(5..7)));
        assert_eq!(rows.runs(5..5).count(), 0);
    }
}
