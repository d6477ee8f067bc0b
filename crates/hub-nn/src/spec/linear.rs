use super::{Axis, TensorRef};

/// A matrix that rows are multiplied with, and what is added: `x · weightᵀ + bias`.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearSpec {
    /// `[outputs, inputs]`.
    pub weight: TensorRef,
    /// `[outputs]`.
    pub bias: Option<TensorRef>,
    /// Width of the rows that come in.
    pub inputs: usize,
    /// Width of the rows that come out.
    pub outputs: usize,
}

/// A tensor that a specification names, and the shape it must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorUse<'a> {
    /// Where it lies.
    pub tensor: &'a TensorRef,
    /// How many rows are used; `None` if their number means nothing.
    pub rows: Option<usize>,
    /// How wide a row of a matrix is; `None` for a vector.
    pub width: Option<usize>,
    /// Whether its rows are looked up and added, or are a few numbers: such a matrix is small, and no one packs it.
    pub is_looked_up: bool,
    /// Whether it is one of many small matrices that are multiplied with together.
    pub is_of_head: bool,
    /// Whether it is multiplied with from the other side.
    pub is_turned: bool,
}

impl<'a> TensorUse<'a> {
    pub(super) fn vector(tensor: &'a TensorRef, len: usize) -> Self {
        Self {
            tensor,
            rows: Some(len),
            width: None,
            is_looked_up: false,
            is_of_head: false,
            is_turned: false,
        }
    }

    pub(super) fn matrix(tensor: &'a TensorRef, rows: impl Into<Option<usize>>, width: usize) -> Self {
        Self {
            tensor,
            rows: rows.into(),
            width: Some(width),
            is_looked_up: false,
            is_of_head: false,
            is_turned: false,
        }
    }

    /// A matrix of one head.
    pub(super) fn of_head(tensor: &'a TensorRef, rows: usize, width: usize) -> Self {
        Self { is_of_head: true, ..Self::matrix(tensor, rows, width) }
    }

    /// A matrix whose rows are looked up.
    pub(super) fn table(tensor: &'a TensorRef, rows: impl Into<Option<usize>>, width: usize) -> Self {
        Self { is_looked_up: true, ..Self::matrix(tensor, rows, width) }
    }

    /// Tells whether a tensor of this shape can be used so.
    pub fn fits(&self, shape: &[usize]) -> bool {
        let (found, has_width) = match (self.tensor.axis, shape, self.width) {
            (Axis::Rows, &[len], None) => (len, true),
            (Axis::Numbers, shape, None) => (shape.iter().copied().fold(1, usize::saturating_mul), true),
            (Axis::Whole, shape, Some(wanted)) => {
                (1, shape.iter().copied().fold(1, usize::saturating_mul) == wanted)
            }
            (Axis::Rows, &[rows, width], Some(wanted)) => (rows, width == wanted),
            (Axis::Rows, &[count, rows, width], Some(wanted)) => {
                (count.saturating_mul(rows), width == wanted)
            }
            (Axis::Columns, &[inputs, outputs], Some(wanted)) => (outputs, inputs == wanted),
            (Axis::Columns, &[count, inputs, outputs], Some(wanted)) => {
                (count.saturating_mul(outputs), inputs == wanted)
            }
            _ => return false,
        };
        let has_rows = match &self.tensor.rows {
            Some(part) => self.rows.is_none_or(|rows| rows == part.total()) && part.end() <= found,
            None => self.rows.is_none_or(|rows| rows == found),
        };
        has_width && has_rows
    }

    /// Returns how many rows are used of a tensor of this shape, and how many numbers those are.
    pub(crate) fn size_in(&self, shape: &[usize]) -> (usize, u64) {
        let numbers = shape.iter().fold(1, |numbers: u64, dim| numbers.saturating_mul(*dim as u64));
        let all = self.rows_in(shape).max(1);
        let used = self.tensor.rows.map_or(all, |rows| rows.total()).min(all);
        (used, numbers / all as u64 * used as u64)
    }

    /// Returns how many rows a tensor of this shape has, counted as this use counts them.
    pub(super) fn rows_in(&self, shape: &[usize]) -> usize {
        let product = |lengths: &[usize]| lengths.iter().copied().fold(1, usize::saturating_mul);
        match (self.tensor.axis, shape) {
            (Axis::Numbers, _) => product(shape),
            (Axis::Whole, _) | (_, []) => 1,
            (Axis::Columns, [rest @ .., _, outputs]) => product(rest).saturating_mul(*outputs),
            (_, [len]) => *len,
            (_, [rest @ .., _]) => product(rest),
        }
    }

    /// Writes the shape that is wanted: `[4096, 1024]`.
    pub fn shape(&self) -> String {
        let rows = self.rows.map_or_else(|| "any".to_owned(), |rows| rows.to_string());
        match self.width {
            Some(width) => format!("[{rows}, {width}]"),
            None => format!("[{rows}]"),
        }
    }
}

impl LinearSpec {
    pub(super) fn collect<'a>(&'a self, all: &mut Vec<TensorUse<'a>>) {
        all.push(TensorUse::matrix(&self.weight, self.outputs, self.inputs));
        all.extend(self.bias.as_ref().map(|bias| TensorUse::vector(bias, self.outputs)));
    }
}
