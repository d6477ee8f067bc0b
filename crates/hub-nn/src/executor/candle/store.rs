use candle_core::{DType, Device as CandleDevice, Tensor};
use hub_kernels::KvShape;

use crate::{
    Error,
    executor::{
        saved::refused,
        store::{Block, Store},
    },
    state::{BLOCK_TOKENS, BlockTable, Group, Kept, SequenceState},
};

/// A block as one contiguous tensor `[layers, numbers]`, written in place and read through views: of each layer keys
/// `[heads, BLOCK_TOKENS, key_dim]` and values `[heads, BLOCK_TOKENS, value_dim]`, or, of what has no positions, the rows
/// before those of a convolution and the matrices.
#[derive(Debug)]
pub(super) struct TensorBlock(Tensor);

/// One layer's part of some blocks: what its rows may see, and where new rows go.
pub(super) struct LayerCache<'a> {
    store: &'a Store<TensorBlock>,
    group: usize,
    table: &'a BlockTable,
    layer: usize,
    /// Of keys and values, where there are any.
    shape: KvShape,
}

/// Keys and values of consecutive positions, each `[kv_heads, positions, head_dim]`.
pub(super) struct Span {
    pub(super) keys: Tensor,
    pub(super) values: Tensor,
}

impl Block for TensorBlock {
    type Context = CandleDevice;

    fn bytes(group: &Group, _device: &CandleDevice) -> u64 {
        block_bytes(group)
    }

    fn new(group: &Group, device: &CandleDevice) -> Result<Self, Error> {
        let shape = (group.layers.len(), group.kept.block_numbers());
        Tensor::zeros(shape, DType::F32, device).map(Self).map_err(|source| compute(device, source))
    }

    fn copy(&self) -> Result<Self, Error> {
        self.0.copy().map(Self).map_err(|source| compute(self.0.device(), source))
    }

    fn save(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let numbers = self.0.flatten_all().and_then(|all| all.to_vec1::<f32>());
        let numbers = numbers.map_err(|source| compute(self.0.device(), source))?;
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        Ok(())
    }

    fn load(&mut self, bytes: &mut &[u8]) -> Result<(), Error> {
        let len = self.0.elem_count() * DType::F32.size_in_bytes();
        let (own, rest) = bytes.split_at_checked(len).ok_or_else(|| refused("is cut short"))?;
        let loaded = Tensor::from_raw_buffer(own, DType::F32, self.0.dims(), self.0.device());
        self.0 = loaded.map_err(|source| compute(self.0.device(), source))?;
        *bytes = rest;
        Ok(())
    }
}

/// Returns how many bytes a block takes in all layers of a group.
pub(crate) fn block_bytes(group: &Group) -> u64 {
    (group.layers.len() * group.kept.block_numbers() * DType::F32.size_in_bytes()) as u64
}

impl<'a> LayerCache<'a> {
    /// Returns one layer's view of what `state` holds.
    pub(super) fn of(store: &'a Store<TensorBlock>, state: &'a SequenceState, layer: usize) -> Option<Self> {
        let (group, layer) = store.place(layer)?;
        let shape = match store.kept(group)? {
            Kept::KeysValues { shape, .. } => shape,
            Kept::Recurrent { .. } => KvShape { heads: 0, key_dim: 0, value_dim: 0 },
        };
        Some(Self { store, group, table: state.groups.get(group)?, layer, shape })
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
            for (place, tensor) in self.parts(at)?.into_iter().zip([keys, values]) {
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
            let [keys, values] = self.parts(at)?;
            spans.push(Span {
                keys: keys.narrow(1, offset, count)?,
                values: values.narrow(1, offset, count)?,
            });
            at += count;
        }
        Ok(spans)
    }

    /// Returns keys and values of the block that holds a position.
    fn parts(&self, position: usize) -> candle_core::Result<[Tensor; 2]> {
        let KvShape { heads, key_dim, value_dim } = self.shape;
        let (block, keys) = (self.block(position)?, heads * BLOCK_TOKENS * key_dim);
        let values = heads * BLOCK_TOKENS * value_dim;
        Ok([
            block.narrow(0, 0, keys)?.reshape((heads, BLOCK_TOKENS, key_dim))?,
            block.narrow(0, keys, values)?.reshape((heads, BLOCK_TOKENS, value_dim))?,
        ])
    }

    /// Returns the rows before the next of a convolution.
    pub(super) fn tail(&self, (rows, channels): (usize, usize)) -> candle_core::Result<Tensor> {
        self.block(0)?.narrow(0, 0, rows * channels)?.reshape((rows, channels))
    }

    /// Keeps the rows before the next of a convolution.
    pub(super) fn keep_tail(&self, rows: &Tensor) -> candle_core::Result<()> {
        self.block(0)?.slice_set(&rows.flatten_all()?.contiguous()?, 0, 0)
    }

    /// Returns the matrices of all heads.
    pub(super) fn matrices(
        &self,
        (heads, keys, values): (usize, usize, usize),
    ) -> candle_core::Result<Tensor> {
        let (block, count) = (self.block(0)?, heads * keys * values);
        block.narrow(0, block.elem_count() - count, count)?.reshape((heads, keys, values))
    }

    /// Keeps the matrices of all heads.
    pub(super) fn keep_matrices(&self, matrices: &Tensor) -> candle_core::Result<()> {
        let block = self.block(0)?;
        let at = block.elem_count() - matrices.elem_count();
        block.slice_set(&matrices.flatten_all()?.contiguous()?, 0, at)
    }

    fn block(&self, position: usize) -> candle_core::Result<Tensor> {
        let block = self.table.block_of(position).and_then(|block| self.store.block(self.group, block));
        match block {
            Some(block) => block.0.get(self.layer),
            None => candle_core::bail!("no block holds position {position}"),
        }
    }
}

fn compute(device: &CandleDevice, source: candle_core::Error) -> Error {
    Error::Compute { device: format!("{:?}", device.location()), source }
}
