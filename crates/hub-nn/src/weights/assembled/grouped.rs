//! Whole numbers of two, four or eight bits with a scale and a zero for each group of inputs: what GPTQ and AWQ have in
//! common. A weight is `scale * (number - zero)`.
//!
//! The zero goes into the number, so that blocks of one scale hold what is left: `number - zero` of four bits is from -8
//! to 7 where the zero is 8, which is a [`WeightKind::Q4_0`], and else from -16 to 15, which is a [`WeightKind::Q5_0`]; with
//! eight bits around 128 it is a [`WeightKind::Q8_0`]. Nothing is rounded. Where inputs of one block have different groups
//! (act order), where scales are no F16, or where the difference needs nine bits, numbers become plain ones of the kind of the
//! scales, which is what the published formula computes in.

use std::ops::Range;

use half::f16;

use super::{
    Assembly, Lines, Stored,
    plain::{numbers, write},
};
use crate::weights::{Error, TensorInfo, WeightKind, Weights};

/// Inputs of a block of every kind that is packed here.
const BLOCK: usize = 32;
/// Lines of stored numbers that are read at once.
const BATCH: usize = 64;

/// How numbers lie in words of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// A word holds numbers of an output and of inputs that follow each other; a line has a word for each output.
    Inputs,
    /// A word holds numbers of an input and of outputs that follow each other, those of even places first.
    Outputs,
}

/// Which group an input is of.
#[derive(Clone, Debug)]
pub(super) enum Groups {
    /// So many inputs that follow each other.
    Even(usize),
    /// As is said for each input.
    Listed(Vec<u32>),
}

/// A matrix as it is stored.
#[derive(Clone, Debug)]
pub(super) struct Grouped {
    pub(super) format: &'static str,
    pub(super) layout: Layout,
    pub(super) bits: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// How many groups there are.
    pub(super) count: usize,
    pub(super) groups: Groups,
    pub(super) numbers: TensorInfo,
    pub(super) zeros: TensorInfo,
    pub(super) scales: TensorInfo,
    /// What all parts take in the files.
    pub(super) bytes: u64,
    /// What is added to each word of stored zeros, beyond which it begins anew.
    pub(super) added: u32,
    pub(super) kind: WeightKind,
}

/// What a matrix could lose if it were packed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Need {
    /// The least and the largest `number - zero`.
    least: i32,
    most: i32,
    /// Whether some scale is no F16.
    has_wide_scales: bool,
}

impl Need {
    /// Returns what two matrices need.
    pub(super) fn with(self, other: Self) -> Self {
        Self {
            least: self.least.min(other.least),
            most: self.most.max(other.most),
            has_wide_scales: self.has_wide_scales || other.has_wide_scales,
        }
    }

    /// Returns the smallest kind of blocks that loses nothing.
    fn blocks(self) -> Option<WeightKind> {
        match (self.least, self.most) {
            _ if self.has_wide_scales => None,
            (-8.., ..=7) => Some(WeightKind::Q4_0),
            (-16.., ..=15) => Some(WeightKind::Q5_0),
            (-128.., ..=127) => Some(WeightKind::Q8_0),
            _ => None,
        }
    }
}

impl Grouped {
    /// Returns how many numbers a word holds.
    fn lanes(&self) -> usize {
        32 / self.bits
    }

    /// Looks at all zeros, and at scales that may be no F16.
    pub(super) fn need(&self, stored: &Stored<'_>) -> Result<Need, Error> {
        let (mut least, mut most) = (i32::MAX, i32::MIN);
        let mask = (1_u32 << self.bits) - 1;
        stored.pieces(&self.zeros, |bytes| {
            for word in words(bytes).map(|word| word.wrapping_add(self.added)) {
                for lane in 0..self.lanes() {
                    let zero = (word >> (lane * self.bits) & mask) as i32;
                    (least, most) = (least.min(zero), most.max(zero));
                }
            }
        })?;
        let mut has_wide_scales = false;
        if self.scales.kind != WeightKind::F16 {
            let is_wide = |scale: &f32| f16::from_f32(*scale).to_f32() != *scale;
            stored.each(&self.scales, |scales| has_wide_scales |= scales.iter().any(is_wide))?;
        }
        Ok(Need { least: -most, most: mask as i32 - least, has_wide_scales })
    }

    /// Returns what the matrix becomes if it and those like it need so much.
    pub(super) fn kind_for(&self, need: Need) -> WeightKind {
        let fits = self.inputs.is_multiple_of(BLOCK)
            && match &self.groups {
                Groups::Even(size) => size.is_multiple_of(BLOCK) || *size >= self.inputs,
                Groups::Listed(groups) => {
                    groups.chunks(BLOCK).all(|groups| groups.iter().all(|group| *group == groups[0]))
                }
            };
        need.blocks().filter(|_| fits).unwrap_or(self.scales.kind)
    }

    fn group(&self, input: usize) -> usize {
        match &self.groups {
            Groups::Even(size) => input / size,
            Groups::Listed(groups) => groups[input] as usize,
        }
    }

    /// Returns the stored numbers of some outputs, one output after another.
    fn codes(&self, weights: &Weights, outputs: &Range<usize>) -> Result<Vec<u8>, Error> {
        let mut codes = vec![0; outputs.len() * self.inputs];
        let lanes = self.lanes();
        // A line has the next inputs: as many as a word holds, or one.
        let (each, columns, all) = match self.layout {
            Layout::Inputs => (lanes, outputs.clone(), self.outputs),
            Layout::Outputs => (1, outputs.start / lanes..outputs.end.div_ceil(lanes), self.outputs / lanes),
        };
        let lines = Lines { line: all * 4, start: columns.start * 4, end: columns.end * 4 };
        for first in (0..self.inputs / each).step_by(BATCH) {
            let batch = first..(first + BATCH).min(self.inputs / each);
            let read = lines.read(weights, &self.numbers, batch.clone())?;
            let read: Vec<u32> = words(&read).collect();
            for (place, column) in columns.clone().enumerate() {
                // Gathered once, and then taken apart for each output that they hold numbers of.
                let mut words = [0; BATCH];
                let of_column = read[place..].iter().step_by(columns.len());
                words.iter_mut().zip(of_column).for_each(|(word, read)| *word = *read);
                let own = match self.layout {
                    Layout::Inputs => column..column + 1,
                    Layout::Outputs => {
                        (column * lanes).max(outputs.start)..((column + 1) * lanes).min(outputs.end)
                    }
                };
                for output in own {
                    let row = &mut codes[(output - outputs.start) * self.inputs..];
                    let out = &mut row[batch.start * each..batch.end * each];
                    self.spread(&words[..batch.len()], output, out);
                }
            }
        }
        Ok(codes)
    }

    /// Takes the numbers of an output out of words.
    fn spread(&self, words: &[u32], output: usize, codes: &mut [u8]) {
        let (bits, mask) = (self.bits, (255 >> (8 - self.bits)) as u8);
        match self.layout {
            Layout::Inputs => {
                for (codes, word) in codes.chunks_exact_mut(self.lanes()).zip(words) {
                    let numbers = codes.iter_mut().enumerate();
                    numbers.for_each(|(lane, code)| *code = (word >> (lane * bits)) as u8 & mask);
                }
            }
            Layout::Outputs => {
                let shift = self.place(output % self.lanes()) * bits;
                codes.iter_mut().zip(words).for_each(|(code, word)| *code = (word >> shift) as u8 & mask);
            }
        }
    }

    /// Returns the zeros of some outputs, a line for each group.
    fn zeros(&self, weights: &Weights, outputs: &Range<usize>) -> Result<Vec<i32>, Error> {
        let lanes = self.lanes();
        let columns = outputs.start / lanes..outputs.end.div_ceil(lanes);
        let lines = Lines { line: self.outputs / lanes * 4, start: columns.start * 4, end: columns.end * 4 };
        let read = lines.read(weights, &self.zeros, 0..self.count)?;
        let read: Vec<u32> = words(&read).map(|word| word.wrapping_add(self.added)).collect();
        let mut zeros = Vec::with_capacity(outputs.len() * self.count);
        for line in read.chunks_exact(columns.len()) {
            zeros.extend(outputs.clone().map(|output| {
                let word = line[output / lanes - columns.start];
                let lane = self.place(output % lanes);
                (word >> (lane * self.bits) & ((1 << self.bits) - 1)) as i32
            }));
        }
        Ok(zeros)
    }

    /// Returns the scales of some outputs, a line for each group.
    fn scales(&self, weights: &Weights, outputs: &Range<usize>) -> Result<Vec<f32>, Error> {
        let size = self.scales.kind.block_bytes();
        let lines = Lines { line: self.outputs * size, start: outputs.start * size, end: outputs.end * size };
        Ok(numbers(self.scales.kind, &lines.read(weights, &self.scales, 0..self.count)?))
    }

    /// Returns where in a word the number of an output lies.
    fn place(&self, output: usize) -> usize {
        match self.layout {
            Layout::Inputs => output,
            // Of each word, first the outputs of even places and then those of odd ones.
            Layout::Outputs => output / 2 + output % 2 * (self.lanes() / 2),
        }
    }
}

impl Assembly for Grouped {
    fn format(&self) -> &'static str {
        self.format
    }

    fn stored_bytes(&self) -> u64 {
        self.bytes
    }

    fn rows(&self, weights: &Weights, rows: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let codes = self.codes(weights, &rows)?;
        let (zeros, scales) = (self.zeros(weights, &rows)?, self.scales(weights, &rows)?);
        let row_bytes = out.len() / rows.len();
        for (row, (codes, out)) in
            codes.chunks_exact(self.inputs).zip(out.chunks_exact_mut(row_bytes)).enumerate()
        {
            let of = |input: usize| {
                let at = self.group(input) * rows.len() + row;
                (scales[at], zeros[at])
            };
            if !self.kind.is_quantized() {
                let weight = |(input, code): (usize, &u8)| {
                    let (scale, zero) = of(input);
                    scale * (i32::from(*code) - zero) as f32
                };
                write(self.kind, codes.iter().enumerate().map(weight), out);
                continue;
            }
            let blocks =
                codes.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(self.kind.block_bytes()));
            for (block, (codes, out)) in blocks.enumerate() {
                let (scale, zero) = of(block * BLOCK);
                pack(self.kind, scale, &codes.map(|code| i32::from(code) - zero), out);
            }
        }
        Ok(())
    }
}

/// Writes a block of a scale and of whole numbers that fit the kind.
fn pack(kind: WeightKind, scale: f32, numbers: &[i32; BLOCK], out: &mut [u8]) {
    let Some((first, out)) = out.split_first_chunk_mut::<2>() else { return };
    *first = f16::from_f32(scale).to_le_bytes();
    match kind {
        WeightKind::Q8_0 => {
            out.iter_mut().zip(numbers).for_each(|(out, number)| *out = *number as u8);
        }
        WeightKind::Q4_0 => halves(&numbers.map(|number| number + 8), out),
        _ => {
            let numbers = numbers.map(|number| number + 16);
            let Some((fifth, out)) = out.split_first_chunk_mut::<4>() else { return };
            let bits = numbers.iter().enumerate().map(|(at, number)| (*number as u32 >> 4 & 1) << at);
            *fifth = bits.fold(0, |bits, bit| bits | bit).to_le_bytes();
            halves(&numbers, out);
        }
    }
}

/// Writes four bits of each number: those of the first half of them are low.
fn halves(numbers: &[i32; BLOCK], out: &mut [u8]) {
    let (low, high) = numbers.split_at(BLOCK / 2);
    for (out, (low, high)) in out.iter_mut().zip(low.iter().zip(high)) {
        *out = (low & 15 | (high & 15) << 4) as u8;
    }
}

pub(super) fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes))
}
