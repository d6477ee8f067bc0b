//! Attention over cached keys and values, a block of positions at a time.
//!
//! Softmax is computed as the blocks pass by, with a running maximum and a running sum (Milakov and Gimelshein 2018,
//! <https://arxiv.org/abs/1805.02867>), so no row of scores longer than a block is ever stored, and a block is read
//! once for all rows of a part. Blocks begin at fixed positions of the sequence: what a row computes depends on its
//! position and on what is cached, not on the rows it shares a step with.

mod cache;
mod part;

pub use cache::{KvBlock, KvKind, KvShape};

use std::sync::{Mutex, PoisonError};

use self::{
    cache::Row,
    part::{Partials, Rows, Target},
};
use crate::{Cpu, disjoint::Disjoint};

/// How many positions a block has.
pub const BLOCK: usize = 128;
/// How many blocks after another have sums of their own, which are merged in order: threads can share the blocks of one
/// row, and its result has the same bits whether they do or not.
const RUN: usize = 4;
/// Fewer parts than this for each thread, and runs become parts too.
const PARTS: usize = 4;
/// How many tokens of a sequence go through its blocks together.
const TOKENS: usize = 16;
/// Fewer rows than this are written by the caller alone.
const FEW: usize = 8;

/// What attention is like in a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a query and a key.
    pub head_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
    /// Multiplier of the scores.
    pub scale: f32,
    /// Scores are squeezed to this range by `cap * tanh(x / cap)`.
    pub soft_cap: Option<f32>,
    /// How many rows a row sees, itself included; all if `None`. Where it sees those behind it too, as many to each side: the
    /// rows whose distance is smaller.
    pub window: Option<usize>,
    /// Whether a row sees only itself and those before it.
    pub is_causal: bool,
    /// `[heads]`: a score beside those of the keys, whose value is nothing; empty if there is none.
    pub sinks: Vec<f32>,
}

/// The rows of one sequence in a step.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// Its first row among the rows of the step.
    pub start: usize,
    /// How many rows it has.
    pub count: usize,
    /// The position of its first row.
    pub position: usize,
    /// Its blocks from position `dropped * BLOCK` on, up to its last row.
    pub blocks: &'a [&'a KvBlock],
    /// How many blocks of its beginning are gone.
    pub dropped: usize,
}

/// Memory that the threads compute in; kept from one use to the next.
#[derive(Debug, Default)]
pub struct Scratch {
    threads: Vec<Mutex<Vec<f32>>>,
    partials: Vec<f32>,
}

impl Attention {
    /// Caches keys `[rows, kv_heads * head_dim]` and values `[rows, kv_heads * value_dim]` in a layer of the sequences'
    /// blocks.
    ///
    /// # Panics
    /// If shapes do not fit, or a sequence lacks a block.
    pub fn write(&self, keys: &[f32], values: &[f32], sequences: &[Sequence<'_>], layer: usize, cpu: &Cpu) {
        let (key_dim, value_dim) = (self.head_dim, self.value_dim);
        let write = |part: usize| {
            let (sequence, head) = (&sequences[part / self.kv_heads], part % self.kv_heads);
            for row in 0..sequence.count {
                let from = (sequence.start + row) * self.kv_heads + head;
                let position = sequence.position + row;
                let block = sequence.blocks[position / BLOCK - sequence.dropped];
                let key = &keys[from * key_dim..(from + 1) * key_dim];
                let row = Row { key, value: &values[from * value_dim..(from + 1) * value_dim] };
                block.write(layer, head, position % BLOCK, row, cpu.isa());
            }
        };
        let parts = sequences.len() * self.kv_heads;
        if sequences.iter().map(|sequence| sequence.count).sum::<usize>() < FEW {
            (0..parts).for_each(write);
        } else {
            cpu.run(parts, |_, part| write(part));
        }
    }

    /// Mixes values: queries `[rows, heads * head_dim]` into `out`, `[rows, heads * value_dim]`, over what a layer of the
    /// sequences' blocks holds.
    ///
    /// # Panics
    /// If shapes do not fit, a sequence lacks a block, or sequences do not follow each other without a common row.
    pub fn attend(
        &self,
        queries: &[f32],
        sequences: &[Sequence<'_>],
        layer: usize,
        out: &mut [f32],
        scratch: &mut Scratch,
        cpu: &Cpu,
    ) {
        assert_eq!(queries.len() / self.head_dim, out.len() / self.value_dim, "as many rows out as in");
        assert!(are_apart(sequences), "each row belongs to one sequence");
        scratch.threads.resize_with(cpu.threads().max(scratch.threads.len()), Mutex::default);
        let parts: usize = sequences.iter().map(|sequence| self.parts(sequence)).sum();
        let Scratch { threads, partials } = scratch;
        // Whatever an earlier part left there is written over.
        let room = |thread: usize| threads[thread].lock().unwrap_or_else(PoisonError::into_inner);
        let out = Disjoint::new(out);
        let rows_of = |part| self.rows(sequences, layer, part);
        let runs =
            sequences.iter().map(|sequence| (sequence.position + sequence.count).div_ceil(RUN * BLOCK));
        let runs = runs.max().unwrap_or(0);
        if runs <= 1 || parts >= PARTS * cpu.threads() || cpu.threads() == 1 {
            cpu.run(parts, |thread, part| {
                let Some(rows) = rows_of(part) else { return };
                rows.attend(queries, &mut room(thread), Target::Whole(&out), cpu.isa());
            });
            return;
        }
        partials.resize(queries.len() / self.head_dim * runs * (self.value_dim + 2), 0.0);
        let numbers = Disjoint::new(partials);
        let all = Partials { numbers: &numbers, runs };
        cpu.run(parts * runs, |thread, part| {
            let (part, run) = (part / runs, part % runs);
            if let Some(rows) = rows_of(part).filter(|rows| rows.runs().contains(&run)) {
                rows.attend(queries, &mut room(thread), Target::Run(run, all), cpu.isa());
            }
        });
        cpu.run(parts, |thread, part| {
            let Some(rows) = rows_of(part) else { return };
            rows.merge(partials, runs, &mut room(thread), &out, cpu.isa());
        });
    }

    /// Returns how many parts a sequence has.
    fn parts(&self, sequence: &Sequence<'_>) -> usize {
        self.kv_heads * sequence.count.div_ceil(TOKENS)
    }

    /// Returns the rows of a part, counted through all sequences.
    fn rows<'a>(&'a self, sequences: &'a [Sequence<'a>], layer: usize, mut part: usize) -> Option<Rows<'a>> {
        for sequence in sequences {
            if part >= self.parts(sequence) {
                part -= self.parts(sequence);
                continue;
            }
            // The last tokens see most: they come first, so that no thread is left with a long part at the end.
            let chunk = sequence.count.div_ceil(TOKENS) - 1 - part / self.kv_heads;
            let tokens = chunk * TOKENS..((chunk + 1) * TOKENS).min(sequence.count);
            return Some(Rows { attention: self, sequence, layer, head: part % self.kv_heads, tokens });
        }
        None
    }
}

/// Whether sequences follow each other, none with a row of another.
fn are_apart(sequences: &[Sequence<'_>]) -> bool {
    let mut end = Some(0);
    sequences.iter().all(|sequence| {
        let follows = end.is_some_and(|end| end <= sequence.start);
        end = sequence.start.checked_add(sequence.count);
        follows
    }) && end.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "each row belongs to one sequence")]
    fn sequences_with_a_common_row_are_refused() {
        let attention = Attention {
            heads: 1,
            kv_heads: 1,
            head_dim: 4,
            value_dim: 4,
            scale: 1.0,
            soft_cap: None,
            window: None,
            is_causal: true,
            sinks: Vec::new(),
        };
        let block = KvBlock::new(KvKind::F32, 1, KvShape { heads: 1, key_dim: 4, value_dim: 4 });
        let blocks = [&block];
        let sequence = Sequence { start: 1, count: 2, position: 0, blocks: &blocks, dropped: 0 };
        let other = Sequence { start: 2, ..sequence };
        let (mut out, mut scratch) = ([0.0; 16], Scratch::default());
        attention.attend(&[0.0; 16], &[sequence, other], 0, &mut out, &mut scratch, &Cpu::single());
    }
}
