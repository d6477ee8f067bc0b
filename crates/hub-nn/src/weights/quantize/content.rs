use std::ops::Range;

use hub_kernels::Cpu;

use super::Target;
use crate::weights::{Error, Metadata, RawTensor, TensorInfo, WeightKind, Weights, kind::elements_of};

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
    /// As many rows of each of these, one after another: experts, or a single tensor.
    Rows(Vec<SourceRows>),
    /// Numbers that are known.
    Numbers(Vec<f32>),
}

/// Rows of a stored tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRows {
    /// Its name.
    pub name: String,
    /// The first of the rows.
    pub start: usize,
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
            let source = SourceRows { name: name.to_owned(), start: 0 };
            Some(ContentTensor::new(name, info.shape.clone(), info.kind, MadeOf::Rows(vec![source])))
        });
        Self { metadata: weights.metadata().clone(), tensors: tensors.collect(), notes: Vec::new() }
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

    fn stored(&self) -> &[SourceRows] {
        match &self.made_of {
            MadeOf::Rows(sources) => sources,
            MadeOf::Numbers(_) => &[],
        }
    }

    /// Returns the kind that what it is made of has.
    pub(super) fn kind(&self, weights: &Weights) -> WeightKind {
        self.sources(weights).next().map_or(self.plain, |info| info.kind)
    }

    /// Iterates over what it is made of.
    pub(super) fn sources<'a>(&'a self, weights: &'a Weights) -> impl Iterator<Item = &'a TensorInfo> {
        self.stored().iter().filter_map(|source| weights.info(&source.name))
    }

    /// Returns how many numbers are read together: a row, a number of a vector, a quantized vector.
    fn width(&self) -> usize {
        let is_apart = self.shape.len() < 2 && !self.plain.is_quantized();
        if is_apart { 1 } else { self.shape.last().copied().unwrap_or(1) }
    }

    /// Returns how many of those there are.
    fn rows(&self) -> usize {
        elements_of(&self.shape).unwrap_or(0) / self.width().max(1)
    }

    /// Returns how many bytes are read for a row.
    pub(super) fn bytes_read(&self, weights: &Weights) -> u64 {
        self.kind(weights).bytes_of(&[self.width()]).unwrap_or(0) as u64
    }

    /// Iterates over its rows in pieces of about `numbers` numbers.
    pub(super) fn pieces(&self, numbers: usize) -> impl Iterator<Item = Range<usize>> {
        let (rows, step) = (self.rows(), (numbers / self.width().max(1)).max(1));
        (0..rows).step_by(step).map(move |start| start..rows.min(start + step))
    }

    /// Reads some rows and returns them as the target says.
    pub(super) fn piece(
        &self,
        weights: &Weights,
        rows: Range<usize>,
        target: &Target,
        cpu: &Cpu,
    ) -> Result<Vec<u8>, Error> {
        let raw = self.read(weights, rows)?;
        if raw.kind == target.to && self.change == Change::None && self.columns == RowOrder::Stored {
            return Ok(raw.bytes);
        }
        let refuse = |reason: String| Error::Unwritable { name: self.name.clone(), reason };
        let mut numbers = raw.to_f32().map_err(|error| refuse(error.to_string()))?;
        match self.change {
            Change::None => {}
            Change::Plus(plus) => numbers.iter_mut().for_each(|number| *number += plus),
            Change::NegativeExp => numbers.iter_mut().for_each(|number| *number = -number.exp()),
        }
        if self.columns != RowOrder::Stored {
            let width = self.width().max(1);
            let stored = numbers.clone();
            for (row, stored) in numbers.chunks_exact_mut(width).zip(stored.chunks_exact(width)) {
                row.iter_mut().enumerate().for_each(|(at, number)| *number = stored[self.columns.stored(at)]);
            }
        }
        let kind = target.to.to_kernels().filter(|kind| kind.is_target());
        let kind = kind.ok_or_else(|| refuse(format!("nothing is rounded to {}", target.to)))?;
        let mut out = vec![0; numbers.len() / kind.block() * kind.block_bytes()];
        hub_kernels::quantize(kind, &numbers, &mut out, cpu).map_err(|error| match error {
            hub_kernels::Error::Number { number, .. } => {
                refuse(format!("it holds {number}, which {} cannot", target.to))
            }
            error => refuse(error.to_string()),
        })?;
        Ok(out)
    }

    /// Reads some rows, in their order.
    fn read(&self, weights: &Weights, rows: Range<usize>) -> Result<RawTensor, Error> {
        if let MadeOf::Numbers(numbers) = &self.made_of {
            let part = numbers.get(rows.start * self.width()..rows.end * self.width());
            return RawTensor::from_f32(vec![rows.len() * self.width()], part.unwrap_or_default());
        }
        let (width, kind) = (self.width(), self.kind(weights));
        let wrong =
            || Error::Unwritable { name: self.name.clone(), reason: "its rows are no blocks".to_owned() };
        let row_bytes = kind.bytes_of(&[width]).ok_or_else(wrong)?;
        if let ([_], [source]) = (self.shape.as_slice(), self.stored())
            && kind.is_quantized()
        {
            return weights.read(&source.name);
        }
        let each = self.rows() / self.stored().len().max(1);
        let mut bytes = vec![0; rows.len() * row_bytes];
        let mut at = rows.start;
        while at < rows.end && each > 0 {
            // What is stored in one run is read at once.
            let run = match self.order {
                RowOrder::Stored => (each - at % each).min(rows.end - at),
                RowOrder::Paired { .. } | RowOrder::Tiled { .. } => 1,
            };
            let source = self.stored().get(at / each).ok_or_else(wrong)?;
            let from = source.start + self.order.stored(at % each);
            let out = &mut bytes[(at - rows.start) * row_bytes..][..run * row_bytes];
            weights.read_rows_into(&source.name, from..from + run, out)?;
            at += run;
        }
        let shape = if width == 1 { vec![rows.len()] } else { vec![rows.len(), width] };
        Ok(RawTensor { shape, kind, bytes })
    }
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
    fn pieces_cover_all_rows() {
        let tensor = ContentTensor::new("x", vec![3, 5, 8], WeightKind::F32, MadeOf::Rows(Vec::new()));
        assert_eq!(tensor.pieces(32).collect::<Vec<_>>(), [0..4, 4..8, 8..12, 12..15]);
        assert_eq!(tensor.pieces(1).count(), 15);
    }
}
