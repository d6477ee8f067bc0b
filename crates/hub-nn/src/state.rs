//! What a sequence left behind for its next step, as plain data.
//!
//! The numbers themselves live in the executor's store, on its device; a [`SequenceState`] only says which blocks of
//! the store are whose. Layers that cache alike (same heads, same window) share a [`Group`] and its blocks.

use std::collections::VecDeque;

use hub_kernels::KvShape;

use crate::spec::{Mixer, ModelSpec};

/// Number of positions in one block of keys and values.
pub const BLOCK_TOKENS: usize = hub_kernels::BLOCK;

/// The most rows one sequence may add in one step.
pub const MAX_STEP_TOKENS: usize = 512;

/// The most checkpoints a sequence has; the oldest is dropped for another.
pub const MAX_CHECKPOINTS: usize = 4;

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
    /// Where it can be cut back to, if it keeps what cannot be cut, the oldest first.
    pub(crate) checkpoints: VecDeque<Checkpoint>,
}

/// The blocks of one sequence in one group.
#[derive(Clone, Debug)]
pub(crate) enum BlockTable {
    /// By position: `p` lies in `blocks[p / BLOCK_TOKENS - dropped]`. Blocks that fell behind the window are dropped from
    /// the front.
    Positions { dropped: usize, blocks: VecDeque<BlockId> },
    /// One block for all positions; none before the first.
    Whole(Option<BlockId>),
}

/// What a sequence kept once, of what cannot be cut back.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) tokens: usize,
    /// Of each group, in order; none of those by position.
    pub(crate) blocks: Vec<Option<BlockId>>,
}

/// Layers that cache alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What each of them caches.
    pub kept: Kept,
    /// The layers of the group, in order.
    pub layers: Vec<usize>,
}

/// What a layer keeps of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kept {
    /// A key and a value for each position and head.
    KeysValues {
        /// How many heads, and how wide they are.
        shape: KvShape,
        /// How many rows a row sees; all if `None`.
        window: Option<usize>,
    },
    /// Numbers that every position changes, whatever their count.
    Recurrent {
        /// Channels of its convolutions, each with the rows before the next one.
        channels: usize,
        /// How many rows are kept of a channel.
        rows: usize,
        /// Number of matrices; 0 for a convolution alone.
        heads: usize,
        /// Numbers of a key.
        key_dim: usize,
        /// Numbers of a value.
        value_dim: usize,
    },
}

impl SequenceState {
    /// Returns how many tokens are cached.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}

impl BlockTable {
    pub(crate) fn new(kept: Kept) -> Self {
        match kept {
            Kept::KeysValues { .. } => Self::Positions { dropped: 0, blocks: VecDeque::new() },
            Kept::Recurrent { .. } => Self::Whole(None),
        }
    }

    /// Returns one past the last position there is room for.
    pub(crate) fn capacity(&self) -> usize {
        match self {
            Self::Positions { dropped, blocks } => (dropped + blocks.len()) * BLOCK_TOKENS,
            Self::Whole(block) => block.map_or(0, |_| usize::MAX),
        }
    }

    /// Returns the block that holds `position`, if it is there.
    pub(crate) fn block_of(&self, position: usize) -> Option<BlockId> {
        match self {
            Self::Positions { dropped, blocks } => {
                blocks.get((position / BLOCK_TOKENS).checked_sub(*dropped)?).copied()
            }
            Self::Whole(block) => *block,
        }
    }

    /// Iterates over the blocks, by position.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = BlockId> {
        let (many, one) = match self {
            Self::Positions { blocks, .. } => (Some(blocks.iter().copied()), None),
            Self::Whole(block) => (None, *block),
        };
        many.into_iter().flatten().chain(one)
    }

    /// Returns how many blocks fell behind the window, and how many there are.
    pub(crate) fn held(&self) -> (usize, usize) {
        match self {
            Self::Positions { dropped, blocks } => (*dropped, blocks.len()),
            Self::Whole(block) => (0, usize::from(block.is_some())),
        }
    }
}

impl Group {
    /// Sorts the layers of a model into groups; none for a model that keeps no state.
    pub fn of(spec: &ModelSpec) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        if !spec.keeps_state() {
            return groups;
        }
        let owners =
            spec.layers.iter().enumerate().filter(|(layer, spec)| spec.mixer.keeper(*layer) == *layer);
        for (layer, kept) in owners.map(|(layer, spec)| (layer, Kept::by(&spec.mixer))) {
            match groups.iter_mut().find(|group| group.kept == kept) {
                Some(group) => group.layers.push(layer),
                None => groups.push(Self { kept, layers: vec![layer] }),
            }
        }
        groups
    }

    /// Returns how many blocks a sequence of `tokens` holds at most at any time while it grows to that length.
    pub fn blocks_for(&self, tokens: usize) -> usize {
        let all = tokens.div_ceil(BLOCK_TOKENS);
        match self.kept {
            // The window can begin in the middle of a block, and a step adds rows before the last ones are dropped.
            Kept::KeysValues { window: Some(window), .. } => {
                all.min(window.div_ceil(BLOCK_TOKENS) + 1 + MAX_STEP_TOKENS / BLOCK_TOKENS)
            }
            Kept::KeysValues { window: None, .. } => all,
            Kept::Recurrent { .. } => usize::from(tokens > 0),
        }
    }
}

impl Kept {
    /// Returns what a mixer keeps.
    pub fn by(mixer: &Mixer) -> Self {
        match mixer {
            Mixer::Attention(attention) => {
                let (heads, dim) = (attention.kv_heads, attention.head_dim);
                let shape = KvShape { heads, key_dim: dim, value_dim: dim };
                Self::KeysValues { shape, window: attention.window }
            }
            Mixer::Latent(latent) => {
                let key_dim = latent.rank + latent.rope_dim;
                let shape = KvShape { heads: 1, key_dim, value_dim: latent.rank };
                Self::KeysValues { shape, window: None }
            }
            Mixer::Recurrent(recurrent) => Self::Recurrent {
                channels: recurrent.convolved().iter().map(|part| part.conv.channels).sum(),
                rows: recurrent.query.conv.kernel - 1,
                heads: recurrent.heads,
                key_dim: recurrent.key_dim,
                value_dim: recurrent.value_dim,
            },
            Mixer::ShortConv(short) => Self::Recurrent {
                channels: short.conv.channels,
                rows: short.conv.kernel - 1,
                heads: 0,
                key_dim: 0,
                value_dim: 0,
            },
        }
    }

    /// Returns how many rows a row sees, where it does not see all.
    pub(crate) fn window(self) -> Option<usize> {
        match self {
            Self::KeysValues { window, .. } => window,
            Self::Recurrent { .. } => None,
        }
    }

    /// Returns how many numbers one block holds of a layer: keys and values of [`BLOCK_TOKENS`] positions, or all that
    /// is kept.
    pub(crate) fn block_numbers(self) -> usize {
        match self {
            Self::KeysValues { shape, .. } => shape.heads * BLOCK_TOKENS * (shape.key_dim + shape.value_dim),
            Self::Recurrent { channels, rows, heads, key_dim, value_dim } => {
                channels * rows + heads * key_dim * value_dim
            }
        }
    }
}
