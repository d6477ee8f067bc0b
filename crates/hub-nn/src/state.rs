//! What a sequence left behind for its next step, as plain data.
//!
//! The numbers themselves live in the executor's store, on its device; a [`SequenceState`] only says which blocks of
//! the store are whose. Layers that cache alike (same heads, same window) share a [`Group`] and its blocks.

use std::collections::VecDeque;

use crate::spec::ModelSpec;

/// Number of positions in one block of keys and values.
pub const BLOCK_TOKENS: usize = hub_kernels::BLOCK;

/// Names one block of an executor's store, within its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockId(pub(crate) u32);

/// What one sequence has cached: how many tokens, and in which blocks.
///
/// Made, grown and given back by an [`Executor`](crate::executor::Executor) only; a state must return to the executor
/// that made it ([`release`](crate::executor::Executor::release)), or its blocks stay taken until that is dropped.
#[derive(Debug, Default)]
pub struct SequenceState {
    pub(crate) tokens: usize,
    pub(crate) groups: Vec<BlockTable>,
}

/// The blocks of one sequence in one group, by position.
///
/// Position `p` lies in `blocks[p / BLOCK_TOKENS - dropped]`: blocks that fell behind the window are dropped from the
/// front.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlockTable {
    pub(crate) dropped: usize,
    pub(crate) blocks: VecDeque<BlockId>,
}

/// Layers that cache alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Number of key and value heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// How many rows a row sees; all if `None`.
    pub window: Option<usize>,
    /// The layers of the group, in order.
    pub layers: Vec<usize>,
}

impl SequenceState {
    /// Returns how many tokens are cached.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}

impl BlockTable {
    /// Returns one past the last position there is room for.
    pub(crate) fn capacity(&self) -> usize {
        (self.dropped + self.blocks.len()) * BLOCK_TOKENS
    }

    /// Returns the block that holds `position`, if it is there.
    pub(crate) fn block_of(&self, position: usize) -> Option<BlockId> {
        let index = (position / BLOCK_TOKENS).checked_sub(self.dropped)?;
        self.blocks.get(index).copied()
    }
}

impl Group {
    /// Sorts the layers of a model into groups; none for a model that keeps no state.
    pub fn of(spec: &ModelSpec) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        if !spec.keeps_state() {
            return groups;
        }
        for (layer, attention) in spec.layers.iter().map(|layer| &layer.mixer).enumerate() {
            let shape = (attention.kv_heads, attention.head_dim, attention.window);
            match groups.iter_mut().find(|group| (group.kv_heads, group.head_dim, group.window) == shape) {
                Some(group) => group.layers.push(layer),
                None => groups.push(Self {
                    kv_heads: shape.0,
                    head_dim: shape.1,
                    window: shape.2,
                    layers: vec![layer],
                }),
            }
        }
        groups
    }

    /// Returns how many numbers one block holds: keys and values of [`BLOCK_TOKENS`] positions in all its layers.
    pub fn block_numbers(&self) -> usize {
        self.layers.len() * 2 * self.kv_heads * BLOCK_TOKENS * self.head_dim
    }

    /// Returns how many blocks a sequence of `tokens` holds at most at any time while it grows to that length.
    pub fn blocks_for(&self, tokens: usize) -> usize {
        let all = tokens.div_ceil(BLOCK_TOKENS);
        match self.window {
            // The window can begin in the middle of a block, and a step adds rows before the last ones are dropped.
            Some(window) => all.min(window.div_ceil(BLOCK_TOKENS) + 1 + MAX_STEP_TOKENS / BLOCK_TOKENS),
            None => all,
        }
    }
}

/// The most rows one sequence may add in one step.
pub const MAX_STEP_TOKENS: usize = 512;
