use std::ops::Range;

use hub_kernels::Cpu;

use super::Target;
use crate::{
    spec::TensorRef,
    weights::{Error, Metadata, RawTensor, WeightKind, Weights, kind::elements_of},
};

/// What a GGUF file is to hold.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Its key and value pairs; what says of which kind it is, is set when it is written.
    pub metadata: Metadata,
    /// Its tensors, in order.
    pub tensors: Vec<ContentTensor>,
    /// What it cannot say of the model it is made of.
    pub notes: Vec<String>,
}

/// A tensor of a GGUF file, and what it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct ContentTensor {
    /// Its name.
    pub name: String,
    /// The lengths of its axes, the slowest first.
    pub shape: Vec<usize>,
    /// The kind it has if it is not rounded.
    pub plain: WeightKind,
    /// What it is made of.
    pub made_of: MadeOf,
    /// The order of its rows.
    pub order: RowOrder,
    /// The order of the numbers of a row.
    pub columns: RowOrder,
    /// What becomes of every number.
    pub change: Change,
}

/// What becomes of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// Nothing.
    None,
    /// This is added.
    Plus(f32),
    /// `-exp(x)`: what logarithms of decays stand for.
    NegativeExp,
}

/// What a tensor of a GGUF file is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum MadeOf {
    /// The rows of each of these, one after another: experts, or a single tensor.
    Rows(Vec<TensorRef>),
    /// The columns of each of these, one after another.
    Turned(Vec<TensorRef>),
    /// Numbers that are known.
    Numbers(Vec<f32>),
}

/// How the rows of a tensor follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowOrder {
    /// As they are stored.
    Stored,
    /// The first half of each head and the second take turns: what rotates pairs of neighbours reads them so.
    Paired {
        /// How many rows a head has.
        head: usize,
    },
    /// From `start` on, heads that share a key follow each other where they are stored; here the first heads of all keys come
    /// first, then the second ones.
    Tiled {
        /// The first row that is moved.
        start: usize,
        /// How many rows a head has.
        head: usize,
        /// How many keys there are.
        keys: usize,
        /// How many heads share one.
        each: usize,
    },
}

impl Content {
    /// Describes a GGUF file as it is.
    pub fn of_gguf(weights: &Weights) -> Self {
        let tensors = weights.names().filter_map(|name| {
            let info = weights.info(name)?;
            Some(ContentTensor::new(name, info.shape.clone(), info.kind, MadeOf::whole(name)))
        });
        Self { metadata: weights.metadata().clone(), tensors: tensors.collect(), notes: Vec::new() }
    }
}

impl MadeOf {
    /// All rows of a tensor.
    pub fn whole(name: &str) -> Self {
        Self::Rows(vec![TensorRef::new(name)])
    }

    fn parts(&self) -> &[TensorRef] {
        match self {
            Self::Rows(parts) | Self::Turned(parts) => parts,
            Self::Numbers(_) => &[],
        }
    }
}

/// How a tensor is read: as so many rows of so many numbers. Vectors have a number a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) rows: usize,
    pub(super) width: usize,
}

impl Layout {
    /// Iterates over the rows in pieces of about `numbers` numbers.
    pub(super) fn pieces(self, numbers: usize) -> impl Iterator<Item = Range<usize>> {
        let step = (numbers / self.width.max(1)).max(1);
        (0..self.rows).step_by(step).map(move |start| start..self.rows.min(start + step))
    }
}

impl ContentTensor {
    /// A tensor whose rows and numbers are as they are stored.
    pub fn new(name: impl Into<String>, shape: Vec<usize>, plain: WeightKind, made_of: MadeOf) -> Self {
        Self {
            name: name.into(),
            shape,
            plain,
            made_of,
            order: RowOrder::Stored,
            columns: RowOrder::Stored,
            change: Change::None,
        }
    }

    /// Returns the kind that what it is made of has.
    pub(super) fn kind(&self, weights: &Weights) -> WeightKind {
        let first = self.made_of.parts().first().and_then(|part| weights.info(&part.name));
        first.map_or(self.plain, |info| info.kind)
    }

    /// Returns how it is read.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Rows`] if what it is made of is not there; [`Error::Unwritable`] if that is not as many
    /// numbers as its shape says.
    pub(super) fn layout(&self, weights: &Weights) -> Result<Layout, Error> {
        let all = elements_of(&self.shape).unwrap_or(0);
        // Steps along the only axis of a quantized vector would cut through its blocks.
        if self.shape.len() < 2 && self.kind(weights).is_quantized() {
            return Ok(Layout { rows: 1, width: all });
        }
        let mut layout = Layout { rows: 0, width: 1 };
        for part in self.made_of.parts() {
            let (mut rows, mut width) = weights.part_shape(part)?;
            if let MadeOf::Turned(_) = self.made_of {
                (rows, width) = (width, rows);
            }
            if layout.rows > 0 && layout.width != width {
                return Err(self.refused("its parts have rows of several widths"));
            }
            layout = Layout { rows: layout.rows.saturating_add(rows), width };
        }
        if let MadeOf::Numbers(numbers) = &self.made_of {
            layout.rows = numbers.len();
        }
        if layout.rows.checked_mul(layout.width) != Some(all) {
            return Err(self.refused("what it is made of is of another size"));
        }
        Ok(layout)
    }

    /// Returns how many bytes are read for a row.
    pub(super) fn bytes_read(&self, weights: &Weights, layout: Layout) -> u64 {
        self.kind(weights).bytes_of(&[layout.width]).unwrap_or(0) as u64
    }

    fn refused(&self, reason: impl Into<String>) -> Error {
        Error::Unwritable { name: self.name.clone(), reason: reason.into() }
    }

    /// Reads some rows and returns them as the target says.
    pub(super) fn piece(
        &self,
        weights: &Weights,
        rows: Range<usize>,
        target: &Target,
        cpu: &Cpu,
    ) -> Result<Vec<u8>, Error> {
        let layout = self.layout(weights)?;
        let raw = self.read(weights, layout, rows)?;
        if raw.kind == target.to && self.change == Change::None && self.columns == RowOrder::Stored {
            return Ok(raw.bytes);
        }
        let mut numbers = raw.to_f32().map_err(|error| self.refused(error.to_string()))?;
        match self.change {
            Change::None => {}
            Change::Plus(plus) => numbers.iter_mut().for_each(|number| *number += plus),
            Change::NegativeExp => numbers.iter_mut().for_each(|number| *number = -number.exp()),
        }
        if self.columns != RowOrder::Stored {
            let width = layout.width.max(1);
            let stored = numbers.clone();
            for (row, stored) in numbers.chunks_exact_mut(width).zip(stored.chunks_exact(width)) {
                row.iter_mut().enumerate().for_each(|(at, number)| *number = stored[self.columns.stored(at)]);
            }
        }
        let kind = target.to.to_kernels().filter(|kind| kind.is_target());
        let kind = kind.ok_or_else(|| self.refused(format!("nothing is rounded to {}", target.to)))?;
        let mut out = vec![0; numbers.len() / kind.block() * kind.block_bytes()];
        hub_kernels::quantize(kind, &numbers, &mut out, cpu).map_err(|error| match error {
            hub_kernels::Error::Number { number, .. } => {
                self.refused(format!("it holds {number}, which {} cannot", target.to))
            }
            error => self.refused(error.to_string()),
        })?;
        Ok(out)
    }

    /// Reads some rows, in their order.
    fn read(&self, weights: &Weights, layout: Layout, rows: Range<usize>) -> Result<RawTensor, Error> {
        let (width, kind) = (layout.width, self.kind(weights));
        let parts = match &self.made_of {
            MadeOf::Numbers(numbers) => {
                return RawTensor::from_f32(vec![rows.len()], numbers.get(rows).unwrap_or_default());
            }
            MadeOf::Turned(parts) => return self.read_turned(parts, weights, layout, rows),
            MadeOf::Rows(parts) => parts,
        };
        if let ([_], [part], true) = (self.shape.as_slice(), parts.as_slice(), kind.is_quantized()) {
            return weights.read(&part.name);
        }
        let row_bytes = kind.bytes_of(&[width]).ok_or_else(|| self.refused("its rows are no blocks"))?;
        let mut bytes = vec![0; rows.len() * row_bytes];
        let mut out = bytes.as_mut_slice();
        let mut at = rows.start;
        while at < rows.end {
            // What is stored in one run is read at once.
            let from = self.order.stored(at);
            let (part, within, left) =
                part_of(parts, weights, from)?.ok_or_else(|| self.refused("a row is missing"))?;
            let run = if self.order == RowOrder::Stored { left.min(rows.end - at) } else { 1 };
            let (filled, rest) = out.split_at_mut(run * row_bytes);
            weights.read_part_rows_into(part, within..within + run, filled)?;
            (out, at) = (rest, at + run);
        }
        let shape = if width == 1 { vec![rows.len()] } else { vec![rows.len(), width] };
        Ok(RawTensor { shape, kind, bytes })
    }

    /// Reads columns of the parts, each as a row.
    fn read_turned(
        &self,
        parts: &[TensorRef],
        weights: &Weights,
        layout: Layout,
        rows: Range<usize>,
    ) -> Result<RawTensor, Error> {
        let mut turned = Vec::with_capacity(rows.len() * layout.width);
        let mut start = 0;
        for part in parts {
            let (_, columns) = weights.part_shape(part)?;
            let asked = rows.start.max(start)..rows.end.min(start + columns);
            if !asked.is_empty() {
                let block =
                    weights.read_part(part)?.to_f32().map_err(|error| self.refused(error.to_string()))?;
                for column in asked {
                    turned.extend(block.iter().skip(column - start).step_by(columns));
                }
            }
            start += columns;
        }
        RawTensor::from_f32(vec![rows.len(), layout.width], &turned)
    }
}

/// Finds a row of parts that lie behind each other: its part, where it is in that, and how many rows are left there.
fn part_of<'a>(
    parts: &'a [TensorRef],
    weights: &Weights,
    row: usize,
) -> Result<Option<(&'a TensorRef, usize, usize)>, Error> {
    let mut start = 0;
    for part in parts {
        let (rows, _) = weights.part_shape(part)?;
        if row < start + rows {
            return Ok(Some((part, row - start, start + rows - row)));
        }
        start += rows;
    }
    Ok(None)
}

impl RowOrder {
    /// Returns which stored row is the one at `row`.
    fn stored(self, row: usize) -> usize {
        match self {
            Self::Stored => row,
            Self::Paired { head } => row / head * head + row % 2 * (head / 2) + row % head / 2,
            Self::Tiled { start, .. } if row < start => row,
            Self::Tiled { start, head, keys, each } => {
                let (at, within) = ((row - start) / head, (row - start) % head);
                start + (at % keys * each + at / keys) * head + within
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_a_head_take_turns() {
        let order = RowOrder::Paired { head: 6 };
        let rows: Vec<usize> = (0..12).map(|row| order.stored(row)).collect();
        assert_eq!(rows, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    }

    #[test]
    fn first_heads_of_all_keys_come_first() {
        let order = RowOrder::Tiled { start: 1, head: 2, keys: 3, each: 2 };
        let rows: Vec<usize> = (0..13).map(|row| order.stored(row)).collect();
        assert_eq!(rows, [0, 1, 2, 5, 6, 9, 10, 3, 4, 7, 8, 11, 12]);
    }

    #[test]
    fn columns_of_parts_become_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let numbers: Vec<u8> = (0..24).flat_map(|number| (number as f32).to_le_bytes()).collect();
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![4, 6], &numbers).unwrap();
        safetensors::serialize_to_file([("w", view)], None, &path).unwrap();
        let weights = Weights::open(&path).unwrap();
        let parts = [TensorRef::rows("w", 0..2), TensorRef::rows("w", 2..4)];
        let tensor = ContentTensor::new("x", vec![2, 6, 2], WeightKind::F32, MadeOf::Turned(parts.to_vec()));
        let layout = tensor.layout(&weights).unwrap();
        assert_eq!(layout, Layout { rows: 12, width: 2 });
        let read = |rows| tensor.read(&weights, layout, rows).unwrap().to_f32().unwrap();
        assert_eq!(read(4..8), [4.0, 10.0, 5.0, 11.0, 12.0, 18.0, 13.0, 19.0]);
        let wrong = ContentTensor { shape: vec![2, 6, 3], ..tensor };
        assert!(matches!(wrong.layout(&weights), Err(Error::Unwritable { .. })));
    }

    #[test]
    fn pieces_cover_all_rows() {
        let layout = Layout { rows: 15, width: 8 };
        assert_eq!(layout.pieces(32).collect::<Vec<_>>(), [0..4, 4..8, 8..12, 12..15]);
        assert_eq!(layout.pieces(1).count(), 15);
    }
}
