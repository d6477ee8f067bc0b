use std::ops::Range;

/// A tensor of the files, or some of its rows.
///
/// Rows count along the first axis, so one fused tensor (Phi-3's `qkv_proj`) serves several parts of a layer. A stack of
/// matrices, as of experts, counts as one with all their rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorRef {
    /// Its name in the files.
    pub name: String,
    /// The rows that are meant; all of them if `None`.
    pub rows: Option<Range<usize>>,
}

impl TensorRef {
    /// Names a whole tensor.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), rows: None }
    }

    /// Names rows of a tensor.
    pub fn rows(name: impl Into<String>, rows: Range<usize>) -> Self {
        Self { name: name.into(), rows: Some(rows) }
    }
}

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
    /// Whether its rows are looked up and added, and not multiplied with: such a matrix is small.
    pub is_looked_up: bool,
}

impl<'a> TensorUse<'a> {
    pub(super) fn vector(tensor: &'a TensorRef, len: usize) -> Self {
        Self { tensor, rows: Some(len), width: None, is_looked_up: false }
    }

    pub(super) fn matrix(tensor: &'a TensorRef, rows: impl Into<Option<usize>>, width: usize) -> Self {
        Self { tensor, rows: rows.into(), width: Some(width), is_looked_up: false }
    }

    /// A matrix whose rows are looked up.
    pub(super) fn table(tensor: &'a TensorRef, rows: impl Into<Option<usize>>, width: usize) -> Self {
        Self { is_looked_up: true, ..Self::matrix(tensor, rows, width) }
    }

    /// Tells whether a tensor of this shape can be used so.
    pub fn fits(&self, shape: &[usize]) -> bool {
        let (found, has_width) = match (shape, self.width) {
            (&[len], None) => (len, true),
            (&[rows, width], Some(wanted)) => (rows, width == wanted),
            (&[count, rows, width], Some(wanted)) => (count.saturating_mul(rows), width == wanted),
            // What is added to a matrix of a stack.
            (&[count, len], None) => {
                let is_one =
                    self.tensor.rows.as_ref().is_some_and(|rows| rows.len() == 1 && rows.end <= count);
                return is_one && self.rows.is_none_or(|rows| rows == len);
            }
            _ => return false,
        };
        let has_rows = match &self.tensor.rows {
            Some(range) => self.rows.is_none_or(|rows| rows == range.len()) && range.end <= found,
            None => self.rows.is_none_or(|rows| rows == found),
        };
        has_width && has_rows
    }

    /// Returns how many rows are used of the `found` ones in the files, and how many those are, at least 1.
    pub(crate) fn rows_of(&self, found: usize) -> (usize, usize) {
        let all = found.max(1);
        (self.tensor.rows.as_ref().map_or(all, |rows| rows.len()).min(all), all)
    }

    /// Writes the shape that is wanted: `[4096, 1024]`.
    pub(super) fn shape(&self) -> String {
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
