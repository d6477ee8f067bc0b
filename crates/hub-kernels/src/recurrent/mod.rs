//! Mixers that keep a state of fixed size: causal convolutions, and heads with a matrix that rows read and change.
//!
//! A row is computed from the numbers of its own sequence alone, in the order of the rows: its result does not depend on
//! the rows it shares a step with, nor on how many threads there are.

mod conv;
mod scan;

pub use conv::Conv;
pub use scan::{Scan, ScanRows};

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use crate::{
    saved::{put, put_lanes, take, take_lanes},
    simd::LANES,
};

/// What some layers keep of one sequence.
#[derive(Debug)]
pub struct RecurrentBlock {
    shape: RecurrentShape,
    /// `[layers]`: the last rows that convolutions saw, `[rows, channels]`.
    tails: Vec<RwLock<Vec<f32>>>,
    /// `[layers, heads]`: a matrix each, `[value_dim / 16, key_dim, 16]`.
    heads: Vec<Mutex<Vec<[f32; LANES]>>>,
}

/// What a layer keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecurrentShape {
    /// Channels of its convolutions.
    pub channels: usize,
    /// How many rows are kept of a channel.
    pub rows: usize,
    /// Number of matrices.
    pub heads: usize,
    /// Numbers of a key.
    pub key_dim: usize,
    /// Numbers of a value.
    pub value_dim: usize,
}

/// The rows of one sequence in a step, and what it keeps.
#[derive(Clone, Copy, Debug)]
pub struct Stream<'a> {
    /// Its first row among the rows of the step.
    pub start: usize,
    /// How many rows it has.
    pub count: usize,
    /// What it keeps.
    pub block: &'a RecurrentBlock,
}

impl RecurrentShape {
    /// Returns how many bytes that takes.
    pub const fn bytes(self) -> usize {
        (self.channels * self.rows + self.heads * self.matrix() * LANES) * size_of::<f32>()
    }

    /// Returns how many vectors a matrix has.
    const fn matrix(self) -> usize {
        self.value_dim.div_ceil(LANES) * self.key_dim
    }
}

impl RecurrentBlock {
    /// Takes memory for what so many layers keep, all zero.
    pub fn new(shape: RecurrentShape, layers: usize) -> Self {
        let tail = |_| RwLock::new(vec![0.0; shape.rows * shape.channels]);
        let head = |_| Mutex::new(vec![[0.0; LANES]; shape.matrix()]);
        let heads = (0..layers * shape.heads).map(head).collect();
        Self { shape, tails: (0..layers).map(tail).collect(), heads }
    }

    /// Returns the last rows that the convolutions of a layer saw.
    fn tail(&self, layer: usize) -> RwLockReadGuard<'_, Vec<f32>> {
        // A writer that panicked leaves numbers, as wrong as its step was.
        self.tails[layer].read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the matrix of a head of a layer.
    fn head(&self, layer: usize, head: usize) -> MutexGuard<'_, Vec<[f32; LANES]>> {
        self.heads[layer * self.shape.heads + head].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecurrentBlock {
    /// Appends all numbers as bytes.
    pub fn save(&self, out: &mut Vec<u8>) {
        (0..self.tails.len()).for_each(|layer| put(&self.tail(layer), out));
        for head in &self.heads {
            put_lanes(&head.lock().unwrap_or_else(PoisonError::into_inner), out);
        }
    }

    /// Takes all numbers from the beginning of `bytes`, as [`save`](Self::save) wrote them of a block of the same shape,
    /// and moves on behind them; `None` if there are too few.
    pub fn load(&mut self, bytes: &mut &[u8]) -> Option<()> {
        for tail in &mut self.tails {
            take(tail.get_mut().unwrap_or_else(PoisonError::into_inner), bytes)?;
        }
        for head in &mut self.heads {
            take_lanes(head.get_mut().unwrap_or_else(PoisonError::into_inner), bytes)?;
        }
        Some(())
    }
}

impl Clone for RecurrentBlock {
    fn clone(&self) -> Self {
        let tails = (0..self.tails.len()).map(|layer| RwLock::new(self.tail(layer).clone())).collect();
        let head =
            |head: &Mutex<Vec<_>>| Mutex::new(head.lock().unwrap_or_else(PoisonError::into_inner).clone());
        Self { shape: self.shape, tails, heads: self.heads.iter().map(head).collect() }
    }
}
