use hub_base::{Account, OverBudget, Reservation};

use crate::{
    Error,
    spec::ModelSpec,
    state::{BLOCK_TOKENS, BlockId, BlockTable, Group, SequenceState},
};

/// What a store keeps: keys and values of [`BLOCK_TOKENS`] positions in all layers of a group.
pub(super) trait Block: Sized {
    /// What is needed to make one.
    type Context;

    /// Returns how many bytes one takes.
    fn bytes(group: &Group, context: &Self::Context) -> u64;

    /// Makes one, all zero.
    fn new(group: &Group, context: &Self::Context) -> Result<Self, Error>;

    /// Makes another with the same numbers.
    fn copy(&self) -> Result<Self, Error>;
}

/// The keys and values of all sequences of one model, in blocks.
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
        state.groups.resize_with(self.groups.len(), BlockTable::default);
        let before: Vec<usize> = state.groups.iter().map(|table| table.blocks.len()).collect();
        let grown = (0..self.groups.len()).try_for_each(|group| self.grow(group, state, tokens));
        if grown.is_err() {
            for (group, len) in before.into_iter().enumerate() {
                let table = &mut state.groups[group];
                for block in table.blocks.drain(len.min(table.blocks.len())..) {
                    self.groups[group].let_go(block);
                }
            }
        }
        grown
    }

    fn grow(&mut self, group: usize, state: &mut SequenceState, tokens: usize) -> Result<(), Error> {
        let start = state.tokens;
        let table = &mut state.groups[group];
        if !start.is_multiple_of(BLOCK_TOKENS)
            && let Some(last) = table.blocks.back_mut()
        {
            self.copied_bytes += self.groups[group].make_own(last, &self.account, &self.context)?;
        }
        while table.capacity() < start + tokens {
            table.blocks.push_back(self.groups[group].take(&self.account, &self.context)?);
        }
        Ok(())
    }

    pub(super) fn fork(&mut self, state: &SequenceState) -> SequenceState {
        for (store, table) in self.groups.iter_mut().zip(&state.groups) {
            for block in &table.blocks {
                store.hold(*block);
            }
        }
        SequenceState { tokens: state.tokens, groups: state.groups.clone() }
    }

    /// Notes that `tokens` rows were written, and drops the blocks that fell behind the window.
    pub(super) fn advance(&mut self, state: &mut SequenceState, tokens: usize) {
        state.tokens += tokens;
        for (store, table) in self.groups.iter_mut().zip(&mut state.groups) {
            let Some(window) = store.group.window else { continue };
            let first_seen = (state.tokens + 1).saturating_sub(window);
            while (table.dropped + 1) * BLOCK_TOKENS <= first_seen
                && let Some(block) = table.blocks.pop_front()
            {
                table.dropped += 1;
                store.let_go(block);
            }
        }
    }

    pub(super) fn rewind(&mut self, state: &mut SequenceState, to: usize) -> usize {
        let reaches = |store: &GroupStore<B>, table: &BlockTable| {
            let window = store.group.window.unwrap_or(usize::MAX);
            table.dropped * BLOCK_TOKENS <= (to + 1).saturating_sub(window)
        };
        let to = to.min(state.tokens);
        let to = if self.groups.iter().zip(&state.groups).all(|(store, table)| reaches(store, table)) {
            to
        } else {
            0
        };
        for (store, table) in self.groups.iter_mut().zip(&mut state.groups) {
            if to == 0 {
                table.dropped = 0;
            }
            let kept = to.div_ceil(BLOCK_TOKENS).saturating_sub(table.dropped).min(table.blocks.len());
            for block in table.blocks.drain(kept..) {
                store.let_go(block);
            }
        }
        state.tokens = to;
        to
    }

    pub(super) fn release(&mut self, state: SequenceState) {
        for (store, table) in self.groups.iter_mut().zip(state.groups) {
            for block in table.blocks {
                store.let_go(block);
            }
        }
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

    /// Returns the block of a group that a table names.
    pub(super) fn block(&self, group: usize, block: BlockId) -> Option<&B> {
        self.groups.get(group)?.slots.get(block.0 as usize)?.as_ref().map(|slot| &slot.block)
    }
}

impl<B: Block> GroupStore<B> {
    fn reserve(&self, account: &Account, context: &B::Context) -> Result<Reservation, Error> {
        let fail = |source: OverBudget| Error::Memory { what: "keys and values", source };
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
