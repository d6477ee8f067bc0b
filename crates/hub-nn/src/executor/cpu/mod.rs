//! The executor for processors, on hub-kernels.
//!
//! A layer is a few pieces of work that the threads share: each norm, gate or residual is computed on the way into the
//! product that follows it, which takes its inputs row by row, rounded as its weights ask for.

mod altup;
mod experts;
mod latent;
mod layer;
mod load;
mod means;
mod packing;
mod per_layer;
mod plan;
mod pooled;
mod recurrent;
mod step;

use std::ops::Range;

use hub_base::{CancelToken, ProgressSink, Reservation};
use hub_kernels::{Cpu, KvBlock, KvKind, RecurrentBlock, RecurrentShape};

pub(super) use self::packing::{Packing, weight_bytes};
use self::{
    altup::Streams,
    layer::{Layer, Linear, Norm},
    load::Loader,
    per_layer::PerLayerTable,
    plan::{Scratch, Widths},
    pooled::Pooled,
    step::Step,
};
use super::{
    Executor, ExecutorOptions, Output, Segment, Want,
    places::{Place, ends_model, find_places},
    rope::Rope,
    saved::{SavedState, refused},
    store::{Block, Store},
};
use crate::{
    Device, Error,
    device::Priority,
    spec::ModelSpec,
    state::{Group, Kept, SequenceState},
    weights::Weights,
};

/// Runs a model on the processor, over packed weights.
///
/// What a row computes is bitwise the same whatever else shares its step, and for any number of threads.
#[derive(Debug)]
pub struct CpuExecutor {
    spec: ModelSpec,
    device: Device,
    cpu: Cpu,
    model: Model,
    store: Store<CacheBlock>,
    /// What states are told apart by that this executor made.
    kind: &'static str,
    scratch: Scratch,
    places: Vec<Place>,
}

/// The weights of a whole model.
#[derive(Debug)]
struct Model {
    table: std::sync::Arc<hub_kernels::Packed>,
    positions: Option<Table>,
    token_types: Option<Table>,
    embedding_norm: Option<Norm>,
    per_layer: Option<PerLayerTable>,
    streams: Option<Streams>,
    layers: Vec<Layer>,
    final_norm: Option<Norm>,
    head: ModelHead,
    ropes: Vec<Rope>,
    widths: Widths,
    reservation: Reservation,
}

/// Rows that are looked up and added.
#[derive(Debug)]
struct Table {
    width: usize,
    values: Vec<f32>,
}

impl Table {
    /// Returns a row, if there is one.
    fn row(&self, index: usize) -> Option<&[f32]> {
        self.values.chunks_exact(self.width).nth(index)
    }
}

/// What is computed from the last hidden state.
#[derive(Debug)]
enum ModelHead {
    None,
    Logits { linear: Linear, scale: f32, soft_cap: Option<f32> },
    Pooled(Pooled),
    Beside(Vec<Linear>),
}

/// A block of the store.
#[derive(Clone, Debug)]
enum CacheBlock {
    KeysValues(KvBlock),
    Recurrent(RecurrentBlock),
}

impl Block for CacheBlock {
    type Context = KvKind;

    fn bytes(group: &Group, kind: &KvKind) -> u64 {
        block_bytes(group, *kind)
    }

    fn new(group: &Group, kind: &KvKind) -> Result<Self, Error> {
        let layers = group.layers.len();
        Ok(match group.kept {
            Kept::KeysValues { shape, .. } => Self::KeysValues(KvBlock::new(*kind, layers, shape)),
            Kept::Recurrent { channels, rows, heads, key_dim, value_dim } => {
                let shape = RecurrentShape { channels, rows, heads, key_dim, value_dim };
                Self::Recurrent(RecurrentBlock::new(shape, layers))
            }
        })
    }

    fn copy(&self) -> Result<Self, Error> {
        Ok(self.clone())
    }

    fn save(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Self::KeysValues(block) => block.save(out),
            Self::Recurrent(block) => block.save(out),
        }
        Ok(())
    }

    fn load(&mut self, bytes: &mut &[u8]) -> Result<(), Error> {
        let loaded = match self {
            Self::KeysValues(block) => block.load(bytes),
            Self::Recurrent(block) => block.load(bytes),
        };
        loaded.ok_or_else(|| refused("is cut short"))
    }
}

/// Returns how many bytes a block takes in all layers of a group.
pub(super) fn block_bytes(group: &Group, kind: KvKind) -> u64 {
    let bytes = match group.kept {
        Kept::KeysValues { shape, .. } => kind.block_bytes(shape),
        Kept::Recurrent { channels, rows, heads, key_dim, value_dim } => {
            RecurrentShape { channels, rows, heads, key_dim, value_dim }.bytes()
        }
    };
    group.layers.len() as u64 * bytes as u64
}

impl CpuExecutor {
    /// Loads the tensors that `spec` names from `weights`, packing them as they are read. Of
    /// `options` it takes how keys and values and the matrices of encoders are kept.
    ///
    /// The device's account pays for all of them before the first is read. Progress counts bytes of the files.
    ///
    /// # Errors
    /// [`Error::Spec`] if the specification and the files do not fit each other, [`Error::WeightKind`] for a tensor of a
    /// kind that cannot be computed with, [`Error::Memory`] if the account does not allow it, [`Error::Cancelled`] once
    /// `cancel` is set, [`Error::Threads`].
    pub fn load(
        spec: ModelSpec,
        weights: &Weights,
        device: &Device,
        options: ExecutorOptions,
        progress: &ProgressSink,
        cancel: &CancelToken,
    ) -> Result<Self, Error> {
        let cpu = device.cpu_team()?;
        let model =
            Loader::new(weights, device, &cpu, Packing::of(options, &spec, weights), progress, cancel)
                .model(&spec)?;
        let store = Store::new(&spec, device.account().clone(), options.kv);
        Ok(Self {
            spec,
            device: device.clone(),
            cpu,
            model,
            store,
            kind: match options.kv {
                KvKind::F32 => "processor, F32",
                KvKind::F16 => "processor, F16",
                KvKind::Q8 => "processor, Q8",
            },
            scratch: Scratch::default(),
            places: Vec::new(),
        })
    }
}

impl Executor for CpuExecutor {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn weight_bytes(&self) -> u64 {
        self.model.reservation.bytes()
    }

    fn state_bytes(&self) -> u64 {
        self.store.bytes()
    }

    fn copied_bytes(&self) -> u64 {
        self.store.copied_bytes()
    }

    fn bytes_for(&self, tokens: usize) -> u64 {
        self.store.bytes_for(tokens)
    }

    fn append(&mut self, state: &mut SequenceState, tokens: usize) -> Result<(), Error> {
        self.store.append(state, tokens)
    }

    fn fork(&mut self, state: &SequenceState) -> SequenceState {
        self.store.fork(state)
    }

    fn checkpoint(&mut self, state: &mut SequenceState) {
        self.store.checkpoint(state);
    }

    fn rewind(&mut self, state: &mut SequenceState, to: usize) -> usize {
        self.store.rewind(state, to)
    }

    fn save(&self, state: &SequenceState) -> Result<SavedState, Error> {
        self.store.save(&self.spec, self.kind, state)
    }

    fn restore(&mut self, saved: &SavedState) -> Result<SequenceState, Error> {
        self.store.restore(&self.spec, self.kind, saved)
    }

    fn release(&mut self, state: SequenceState) {
        self.store.release(state);
    }

    fn run_into(
        &mut self,
        layers: Range<usize>,
        segments: &mut [Segment<'_>],
        want: Want,
        priority: Priority,
        output: &mut Output,
    ) -> Result<(), Error> {
        let is_last = ends_model(&self.spec, &layers, want)?;
        find_places(&self.spec, segments, &mut self.places)?;
        let mut pass = self.device.gate().enter(priority);
        let Self { spec, model, store, cpu, places, .. } = self;
        let step = Step { spec, model, store, cpu, segments, places };
        step.run(&mut self.scratch, layers, want, &mut pass, output)?;
        drop(pass);
        if is_last {
            for (segment, place) in segments.iter_mut().zip(&self.places) {
                if let Some(state) = &mut segment.state {
                    self.store.advance(state, place.count);
                }
            }
        }
        Ok(())
    }
}
