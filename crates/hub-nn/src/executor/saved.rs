//! States outside of an executor: what a sequence left behind, as bytes.

use super::store::{Block, Store};
use crate::{
    Error,
    spec::ModelSpec,
    state::{BLOCK_TOKENS, BlockTable, Group, Kept, SequenceState},
};

/// What a saved state begins with.
const MAGIC: &[u8; 8] = b"HUBSTAT1";

/// What a sequence left behind, outside of its executor: it can be kept in a file, and outlives the model.
///
/// The bytes are of one model in one executor with one kind of cache; another refuses them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedState(Vec<u8>);

impl SavedState {
    /// Takes bytes that [`as_bytes`](Self::as_bytes) gave; they are checked when they are restored.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<B: Block> Store<B> {
    /// Saves what a state holds; its checkpoints are left out.
    pub(super) fn save(
        &self,
        spec: &ModelSpec,
        kind: &str,
        state: &SequenceState,
    ) -> Result<SavedState, Error> {
        let mut out = MAGIC.to_vec();
        put(&mut out, fingerprint(spec, kind));
        put(&mut out, state.tokens as u64);
        for (group, table) in state.groups.iter().enumerate() {
            let (dropped, count) = table.held();
            put(&mut out, dropped as u64);
            put(&mut out, count as u64);
            for block in table.blocks() {
                let lost = || refused("names blocks that are not there");
                self.block(group, block).ok_or_else(lost)?.save(&mut out)?;
            }
        }
        Ok(SavedState(out))
    }

    /// Makes a state of a saved one, all or nothing.
    pub(super) fn restore(
        &mut self,
        spec: &ModelSpec,
        kind: &str,
        saved: &SavedState,
    ) -> Result<SequenceState, Error> {
        let mut bytes = saved.0.strip_prefix(MAGIC).ok_or_else(|| refused("is none"))?;
        if take(&mut bytes)? != fingerprint(spec, kind) {
            return Err(refused("belongs to another model, or to another kind of cache"));
        }
        let tokens = take(&mut bytes)?;
        let mut state = SequenceState::default();
        // A state that was never used has no groups.
        let groups = if bytes.is_empty() { Vec::new() } else { Group::of(spec) };
        for (index, group) in groups.iter().enumerate() {
            state.groups.push(BlockTable::new(group.kept));
            if let Err(error) = self.restore_group(index, group.kept, &mut state, &mut bytes) {
                self.release(state);
                return Err(error);
            }
        }
        // Far above any real context, and small enough to be added to.
        state.tokens = usize::try_from(tokens.min(u64::from(u32::MAX))).unwrap_or(0);
        let has_room = groups.iter().zip(&state.groups).all(|(group, table)| {
            // What the next row sees must be there, and nothing is dropped that a window does not leave behind.
            let window = group.kept.window().unwrap_or(usize::MAX);
            let first_seen = (state.tokens + 1).saturating_sub(window);
            table.capacity() >= state.tokens && table.held().0 * BLOCK_TOKENS <= first_seen
        });
        if !bytes.is_empty() || !has_room || (state.groups.is_empty() && state.tokens > 0) {
            self.release(state);
            return Err(refused("contradicts itself"));
        }
        Ok(state)
    }

    fn restore_group(
        &mut self,
        group: usize,
        kept: Kept,
        state: &mut SequenceState,
        bytes: &mut &[u8],
    ) -> Result<(), Error> {
        let (dropped, count) = (take(bytes)?, take(bytes)?);
        let most = if let Kept::Recurrent { .. } = kept { 1 } else { u64::MAX };
        // Where blocks are dropped, positions count in them: far above any real context, and no overflow.
        if count > most || dropped > u64::from(u32::MAX) {
            return Err(refused("contradicts itself"));
        }
        for _ in 0..count {
            // A block is paid for before it is made, and one that lacks bytes ends the loop.
            let id = self.load_block(group, bytes)?;
            match &mut state.groups[group] {
                BlockTable::Positions { blocks, .. } => blocks.push_back(id),
                BlockTable::Whole(block) => *block = Some(id),
            }
        }
        if let BlockTable::Positions { dropped: own, .. } = &mut state.groups[group] {
            *own = dropped as usize;
        }
        Ok(())
    }
}

/// Tells models apart, executors, and kinds of caches, as far as their states differ.
fn fingerprint(spec: &ModelSpec, kind: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let said = format!("{} {kind} {:?}", spec.family, Group::of(spec));
    for byte in said.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

fn put(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn take(bytes: &mut &[u8]) -> Result<u64, Error> {
    let (number, rest) = bytes.split_first_chunk().ok_or_else(|| refused("is cut short"))?;
    *bytes = rest;
    Ok(u64::from_le_bytes(*number))
}

pub(super) fn refused(reason: &str) -> Error {
    Error::Rows { reason: format!("the saved state {reason}") }
}
