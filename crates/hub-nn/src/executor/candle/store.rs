use candle_core::{DType, Device as CandleDevice, Tensor};
use hub_base::{Account, OverBudget, Reservation};

use crate::{
    Error,
    spec::ModelSpec,
    state::{BLOCK_TOKENS, BlockId, BlockTable, Group, SequenceState},
};

/// The keys and values of all sequences of one model, in blocks.
///
/// A block is one contiguous tensor `[layers, 2, kv_heads, BLOCK_TOKENS, head_dim]`, written in place and read through
/// views. It counts its holders, so sequences that began alike share it; a holder that is about to write into a shared
/// one takes a copy first.
#[derive(Debug)]
pub(super) struct Store {
    groups: Vec<GroupStore>,
    account: Account,
    device: CandleDevice,
    /// Bytes of cache that were ever copied: a test holds them at zero where nothing is shared.
    copied_bytes: u64,
}

#[derive(Debug)]
struct GroupStore {
    group: Group,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    tensor: Tensor,
    holders: usize,
    reservation: Reservation,
}

/// One layer's part of some blocks: what its rows may see, and where new rows go.
pub(super) struct LayerCache<'a> {
    store: &'a GroupStore,
    table: &'a BlockTable,
    layer: usize,
}

/// Keys and values of consecutive positions, each `[kv_heads, positions, head_dim]`.
pub(super) struct Span {
    pub(super) keys: Tensor,
    pub(super) values: Tensor,
}

impl Store {
    pub(super) fn new(spec: &ModelSpec, account: Account, device: CandleDevice) -> Self {
        let groups = Group::of(spec)
            .into_iter()
            .map(|group| GroupStore { group, slots: Vec::new(), free: Vec::new() })
            .collect();
        Self { groups, account, device, copied_bytes: 0 }
    }

    pub(super) fn bytes(&self) -> u64 {
        let slots = self.groups.iter().flat_map(|group| group.slots.iter().flatten());
        slots.map(|slot| slot.reservation.bytes()).sum()
    }

    pub(super) fn bytes_for(&self, tokens: usize) -> u64 {
        self.groups.iter().map(|store| store.group.bytes_for(tokens)).sum()
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
            self.copied_bytes += self.groups[group].make_own(last, &self.account)?;
        }
        while table.capacity() < start + tokens {
            table.blocks.push_back(self.groups[group].take(&self.account, &self.device)?);
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
        let reaches = |store: &GroupStore, table: &BlockTable| {
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

    /// Returns one layer's view of what `state` holds.
    pub(super) fn layer<'a>(&'a self, state: &'a SequenceState, layer: usize) -> Option<LayerCache<'a>> {
        let (index, within) = self.groups.iter().enumerate().find_map(|(index, store)| {
            Some((index, store.group.layers.iter().position(|member| *member == layer)?))
        })?;
        Some(LayerCache { store: self.groups.get(index)?, table: state.groups.get(index)?, layer: within })
    }
}

impl GroupStore {
    fn block_bytes(&self) -> u64 {
        (self.group.block_numbers() * DType::F32.size_in_bytes()) as u64
    }

    fn reserve(&self, account: &Account) -> Result<Reservation, Error> {
        let fail = |source: OverBudget| Error::Memory { what: "keys and values", source };
        account.reserve(self.block_bytes()).map_err(fail)
    }

    fn take(&mut self, account: &Account, device: &CandleDevice) -> Result<BlockId, Error> {
        let reservation = self.reserve(account)?;
        let Group { kv_heads, head_dim, ref layers, .. } = self.group;
        let shape = (layers.len(), 2, kv_heads, BLOCK_TOKENS, head_dim);
        let tensor = Tensor::zeros(shape, DType::F32, device).map_err(|source| compute(device, source))?;
        Ok(self.put(Slot { tensor, holders: 1, reservation }))
    }

    fn put(&mut self, slot: Slot) -> BlockId {
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

    /// Replaces `block` by a copy if others hold it too, and returns how many bytes that copied.
    fn make_own(&mut self, block: &mut BlockId, account: &Account) -> Result<u64, Error> {
        let shared = match &self.slots[block.0 as usize] {
            Some(slot) if slot.holders > 1 => slot.tensor.clone(),
            _ => return Ok(0),
        };
        let reservation = self.reserve(account)?;
        let tensor = shared.copy().map_err(|source| compute(shared.device(), source))?;
        self.let_go(*block);
        *block = self.put(Slot { tensor, holders: 1, reservation });
        Ok(self.block_bytes())
    }
}

impl LayerCache<'_> {
    /// Writes keys and values, each `[kv_heads, rows, head_dim]` and contiguous, from `position` on.
    pub(super) fn write(&self, keys: &Tensor, values: &Tensor, position: usize) -> candle_core::Result<()> {
        let rows = keys.dim(1)?;
        let mut done = 0;
        while done < rows {
            let at = position + done;
            let offset = at % BLOCK_TOKENS;
            let count = (rows - done).min(BLOCK_TOKENS - offset);
            let block = self.block(at)?;
            for (part, tensor) in [keys, values].into_iter().enumerate() {
                let place = block.get(part)?;
                place.slice_set(&tensor.narrow(1, done, count)?.contiguous()?, 1, offset)?;
            }
            done += count;
        }
        Ok(())
    }

    /// Returns the positions `from..to` as views into the blocks, in order.
    pub(super) fn spans(&self, from: usize, to: usize) -> candle_core::Result<Vec<Span>> {
        let mut spans = Vec::new();
        let mut at = from;
        while at < to {
            let offset = at % BLOCK_TOKENS;
            let count = (to - at).min(BLOCK_TOKENS - offset);
            let block = self.block(at)?;
            let view = |part: usize| block.get(part)?.narrow(1, offset, count);
            spans.push(Span { keys: view(0)?, values: view(1)? });
            at += count;
        }
        Ok(spans)
    }

    fn block(&self, position: usize) -> candle_core::Result<Tensor> {
        let slot =
            self.table.block_of(position).and_then(|block| self.store.slots[block.0 as usize].as_ref());
        match slot {
            Some(slot) => slot.tensor.get(self.layer),
            None => candle_core::bail!("no block holds position {position}"),
        }
    }
}

fn compute(device: &CandleDevice, source: candle_core::Error) -> Error {
    Error::Compute { device: format!("{:?}", device.location()), source }
}
