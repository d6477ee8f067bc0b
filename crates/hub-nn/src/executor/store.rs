use std::collections::VecDeque;

use hub_base::{Account, OverBudget, Reservation};

use crate::{
    Error,
    spec::ModelSpec,
    state::{BLOCK_TOKENS, BlockId, BlockTable, Checkpoint, Group, Kept, MAX_CHECKPOINTS, SequenceState},
};

/// What a store keeps: keys and values of [`BLOCK_TOKENS`] positions in all layers of a group, or all that they keep.
pub(super) trait Block: Sized {
    /// What is needed to make one.
    type Context;

    /// Returns how many bytes one takes.
    fn bytes(group: &Group, context: &Self::Context) -> u64;

    /// Makes one, all zero.
    fn new(group: &Group, context: &Self::Context) -> Result<Self, Error>;

    /// Makes another with the same numbers.
    fn copy(&self) -> Result<Self, Error>;

    /// Appends all numbers as bytes.
    fn save(&self, out: &mut Vec<u8>) -> Result<(), Error>;

    /// Takes all numbers from the beginning of `bytes`, and moves on behind them; an error if there are too few.
    fn load(&mut self, bytes: &mut &[u8]) -> Result<(), Error>;
}

/// What all sequences of one model keep, in blocks.
///
/// A block counts its holders, so sequences that began alike share it; a holder that is about to write into a shared
/// one takes a copy first.
#[derive(Debug)]
pub(super) struct Store<B: Block> {
    groups: Vec<GroupStore<B>>,
    account: Account,
    context: B::Context,
    /// Bytes of cache that were ever copied: a test holds them at zero where nothing is shared.
    copied_bytes: u64,
}

#[derive(Debug)]
struct GroupStore<B> {
    group: Group,
    slots: Vec<Option<Slot<B>>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<B> {
    block: B,
    holders: usize,
    reservation: Reservation,
}

impl<B: Block> Store<B> {
    pub(super) fn new(spec: &ModelSpec, account: Account, context: B::Context) -> Self {
        let groups = Group::of(spec)
            .into_iter()
            .map(|group| GroupStore { group, slots: Vec::new(), free: Vec::new() })
            .collect();
        Self { groups, account, context, copied_bytes: 0 }
    }

    pub(super) fn bytes(&self) -> u64 {
        let slots = self.groups.iter().flat_map(|group| group.slots.iter().flatten());
        slots.map(|slot| slot.reservation.bytes()).sum()
    }

    pub(super) fn bytes_for(&self, tokens: usize) -> u64 {
        let bytes = |store: &GroupStore<B>| {
            store.group.blocks_for(tokens) as u64 * B::bytes(&store.group, &self.context)
        };
        self.groups.iter().map(bytes).sum()
    }

    pub(super) fn copied_bytes(&self) -> u64 {
        self.copied_bytes
    }

    /// Makes room for `tokens` more rows, all or nothing.
    pub(super) fn append(&mut self, state: &mut SequenceState, tokens: usize) -> Result<(), Error> {
        if state.groups.is_empty() {
            state.groups = self.groups.iter().map(|store| BlockTable::new(store.group.kept)).collect();
        }
        let before: Vec<usize> = state.groups.iter().map(|table| table.held().1).collect();
        let grown = (0..self.groups.len()).try_for_each(|group| self.grow(group, state, tokens));
        if grown.is_err() {
            for ((store, table), len) in self.groups.iter_mut().zip(&mut state.groups).zip(before) {
                store.cut(table, len);
            }
        }
        grown
    }

    fn grow(&mut self, group: usize, state: &mut SequenceState, tokens: usize) -> Result<(), Error> {
        let Self { groups, account, context, copied_bytes } = self;
        let (store, start) = (&mut groups[group], state.tokens);
        match &mut state.groups[group] {
            BlockTable::Positions { dropped, blocks } => {
                if !start.is_multiple_of(BLOCK_TOKENS)
                    && let Some(last) = blocks.back_mut()
                {
                    *copied_bytes += store.make_own(last, account, context)?;
                }
                while (*dropped + blocks.len()) * BLOCK_TOKENS < start + tokens {
                    blocks.push_back(store.take(account, context)?);
                }
            }
            BlockTable::Whole(Some(block)) if tokens > 0 => {
                *copied_bytes += store.make_own(block, account, context)?;
            }
            BlockTable::Whole(Some(_)) => {}
            BlockTable::Whole(block) => *block = Some(store.take(account, context)?),
        }
        Ok(())
    }

    pub(super) fn fork(&mut self, state: &SequenceState) -> SequenceState {
        for (store, table) in self.groups.iter_mut().zip(&state.groups) {
            table.blocks().for_each(|block| store.hold(block));
        }
        SequenceState { tokens: state.tokens, groups: state.groups.clone(), checkpoints: VecDeque::new() }
    }

    /// Keeps what cannot be cut back as it is now, so that [`rewind`](Self::rewind) can land here.
    pub(super) fn checkpoint(&mut self, state: &mut SequenceState) {
        let keeps = |table: &BlockTable| matches!(table, BlockTable::Whole(Some(_)));
        let is_known = state.checkpoints.back().is_some_and(|last| last.tokens == state.tokens);
        if is_known || !state.groups.iter().any(keeps) {
            return;
        }
        if state.checkpoints.len() == MAX_CHECKPOINTS
            && let Some(oldest) = state.checkpoints.pop_front()
        {
            self.forget(&oldest);
        }
        let kept = |(store, table): (&mut GroupStore<B>, &BlockTable)| match table {
            BlockTable::Whole(block) => block.inspect(|block| store.hold(*block)),
            BlockTable::Positions { .. } => None,
        };
        let blocks = self.groups.iter_mut().zip(&state.groups).map(kept).collect();
        state.checkpoints.push_back(Checkpoint { tokens: state.tokens, blocks });
    }

    fn forget(&mut self, checkpoint: &Checkpoint) {
        let blocks = self.groups.iter_mut().zip(&checkpoint.blocks);
        blocks.filter_map(|(store, block)| Some((store, (*block)?))).for_each(|(store, block)| {
            store.let_go(block);
        });
    }

    /// Notes that `tokens` rows were written, and drops the blocks that fell behind the window.
    pub(super) fn advance(&mut self, state: &mut SequenceState, tokens: usize) {
        state.tokens += tokens;
        for (store, table) in self.groups.iter_mut().zip(&mut state.groups) {
            let (Some(window), BlockTable::Positions { dropped, blocks }) =
                (store.group.kept.window(), table)
            else {
                continue;
            };
            let first_seen = (state.tokens + 1).saturating_sub(window);
            while (*dropped + 1) * BLOCK_TOKENS <= first_seen
                && let Some(block) = blocks.pop_front()
            {
                *dropped += 1;
                store.let_go(block);
            }
        }
    }

    pub(super) fn rewind(&mut self, state: &mut SequenceState, to: usize) -> usize {
        let to = self.landing(state, to.min(state.tokens));
        if to == state.tokens {
            return to;
        }
        while let Some(last) = state.checkpoints.pop_back_if(|last| last.tokens > to) {
            self.forget(&last);
        }
        let checkpoint = state.checkpoints.back().filter(|last| last.tokens == to);
        for (index, (store, table)) in self.groups.iter_mut().zip(&mut state.groups).enumerate() {
            match table {
                BlockTable::Positions { dropped, .. } => {
                    if to == 0 {
                        *dropped = 0;
                    }
                    let kept = to.div_ceil(BLOCK_TOKENS).saturating_sub(*dropped);
                    store.cut(table, kept);
                }
                BlockTable::Whole(block) => {
                    block.take().into_iter().for_each(|block| store.let_go(block));
                    *block =
                        checkpoint.and_then(|checkpoint| checkpoint.blocks.get(index).copied().flatten());
                    block.iter().for_each(|block| store.hold(*block));
                }
            }
        }
        state.tokens = to;
        to
    }

    /// Returns where a sequence can be cut back to, at most `to`.
    fn landing(&self, state: &SequenceState, to: usize) -> usize {
        let is_whole = |table: &BlockTable| matches!(table, BlockTable::Whole(Some(_)));
        let to = if to == state.tokens || !state.groups.iter().any(is_whole) {
            to
        } else {
            let before = |checkpoint: &&Checkpoint| checkpoint.tokens <= to;
            state.checkpoints.iter().rev().find(before).map_or(0, |checkpoint| checkpoint.tokens)
        };
        let reaches = |(store, table): (&GroupStore<B>, &BlockTable)| {
            let window = store.group.kept.window().unwrap_or(usize::MAX);
            table.held().0 * BLOCK_TOKENS <= (to + 1).saturating_sub(window)
        };
        if self.groups.iter().zip(&state.groups).all(reaches) { to } else { 0 }
    }

    pub(super) fn release(&mut self, state: SequenceState) {
        state.checkpoints.iter().for_each(|checkpoint| self.forget(checkpoint));
        for (store, table) in self.groups.iter_mut().zip(&state.groups) {
            table.blocks().for_each(|block| store.let_go(block));
        }
    }

    /// Makes a block of saved numbers.
    pub(super) fn load_block(&mut self, group: usize, bytes: &mut &[u8]) -> Result<BlockId, Error> {
        let Self { groups, account, context, .. } = self;
        let store = &mut groups[group];
        let reservation = store.reserve(account, context)?;
        let mut block = B::new(&store.group, context)?;
        block.load(bytes)?;
        Ok(store.put(Slot { block, holders: 1, reservation }))
    }

    /// Returns which group a layer is in, and which of the group's layers it is.
    pub(super) fn place(&self, layer: usize) -> Option<(usize, usize)> {
        self.groups.iter().enumerate().find_map(|(index, store)| {
            Some((index, store.group.layers.iter().position(|member| *member == layer)?))
        })
    }

    /// Returns how many groups there are.
    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Returns what the layers of a group keep.
    pub(super) fn kept(&self, group: usize) -> Option<Kept> {
        self.groups.get(group).map(|store| store.group.kept)
    }

    /// Tells whether a group keeps what has no positions.
    pub(super) fn is_recurrent(&self, group: usize) -> bool {
        matches!(self.kept(group), Some(Kept::Recurrent { .. }))
    }

    /// Returns the block of a group that a table names.
    pub(super) fn block(&self, group: usize, block: BlockId) -> Option<&B> {
        self.groups.get(group)?.slots.get(block.0 as usize)?.as_ref().map(|slot| &slot.block)
    }
}

impl<B: Block> GroupStore<B> {
    fn reserve(&self, account: &Account, context: &B::Context) -> Result<Reservation, Error> {
        let what = match self.group.kept {
            Kept::KeysValues { .. } => "keys and values",
            Kept::Recurrent { .. } => "the state of a sequence",
        };
        let fail = |source: OverBudget| Error::Memory { what, source };
        account.reserve(B::bytes(&self.group, context)).map_err(fail)
    }

    fn take(&mut self, account: &Account, context: &B::Context) -> Result<BlockId, Error> {
        let reservation = self.reserve(account, context)?;
        let block = B::new(&self.group, context)?;
        Ok(self.put(Slot { block, holders: 1, reservation }))
    }

    fn put(&mut self, slot: Slot<B>) -> BlockId {
        match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = Some(slot);
                BlockId(index)
            }
            None => {
                self.slots.push(Some(slot));
                BlockId(self.slots.len() as u32 - 1)
            }
        }
    }

    /// Gives back all blocks of a table but the first `kept`.
    fn cut(&mut self, table: &mut BlockTable, kept: usize) {
        match table {
            BlockTable::Positions { blocks, .. } => {
                blocks.drain(kept.min(blocks.len())..).for_each(|block| self.let_go(block));
            }
            BlockTable::Whole(block) if kept == 0 => {
                block.take().into_iter().for_each(|block| self.let_go(block));
            }
            BlockTable::Whole(_) => {}
        }
    }

    fn hold(&mut self, block: BlockId) {
        if let Some(slot) = self.slots[block.0 as usize].as_mut() {
            slot.holders += 1;
        }
    }

    fn let_go(&mut self, block: BlockId) {
        let place = &mut self.slots[block.0 as usize];
        if let Some(slot) = place {
            slot.holders -= 1;
            if slot.holders == 0 {
                *place = None;
                self.free.push(block.0);
            }
        }
    }

    /// Replaces `id` by a copy if others hold it too, and returns how many bytes that copied.
    fn make_own(&mut self, id: &mut BlockId, account: &Account, context: &B::Context) -> Result<u64, Error> {
        match &self.slots[id.0 as usize] {
            Some(slot) if slot.holders > 1 => {}
            _ => return Ok(0),
        }
        let reservation = self.reserve(account, context)?;
        let Some(shared) = &self.slots[id.0 as usize] else { return Ok(0) };
        let block = shared.block.copy()?;
        self.let_go(*id);
        *id = self.put(Slot { block, holders: 1, reservation });
        Ok(B::bytes(&self.group, context))
    }
}
