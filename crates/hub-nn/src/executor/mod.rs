//! What runs a [`ModelSpec`]: the seam between models as data and arithmetic.

mod candle;
mod cpu;
mod places;
mod rope;
mod rounding;
mod routing;
mod saved;
mod scratch;
mod store;
mod work;

use std::{collections::HashMap, ops::Range};

pub use candle::CandleExecutor;
pub use cpu::CpuExecutor;
pub use hub_kernels::KvKind;
pub use saved::SavedState;
pub use work::{Cost, Work};

use hub_base::{CancelToken, ProgressSink};
use hub_kernels::Kind;

use crate::{
    Device, Error,
    device::Priority,
    spec::ModelSpec,
    state::{Group, SequenceState},
    weights::{Mix, WeightKind, Weights},
};

/// Which executor runs a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ExecutorKind {
    /// The best one for the device: [`CpuExecutor`] on the processor, [`CandleExecutor`] elsewhere.
    #[default]
    Auto,
    /// [`CandleExecutor`], the reference.
    Candle,
    /// [`CpuExecutor`].
    Cpu,
}

/// How [`CpuExecutor`] keeps the matrices of encoders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EncoderWeights {
    /// As the file has them.
    #[default]
    Stored,
    /// Plain numbers as [`WeightKind::Q8_0`]: a little over a quarter of the bytes of
    /// `f32`, and products of bytes, with a loss.
    Q8,
}

/// How a model is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecutorOptions {
    /// By what.
    pub kind: ExecutorKind,
    /// How [`CpuExecutor`] caches keys and values; candle's has them in `f32`.
    pub kv: KvKind,
    /// How [`CpuExecutor`] keeps the matrices of encoders.
    pub encoder_weights: EncoderWeights,
    /// To what [`CpuExecutor`] rounds plain matrices of models of language while it loads them; they stay as the file has
    /// them if `None`.
    pub weights: Option<Mix>,
}

impl ExecutorOptions {
    /// Runs models by `kind`.
    pub fn kind(mut self, kind: ExecutorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Caches keys and values as `kv`.
    pub fn kv(mut self, kv: KvKind) -> Self {
        self.kv = kv;
        self
    }

    /// Keeps the matrices of encoders as `weights`.
    pub fn encoder_weights(mut self, weights: EncoderWeights) -> Self {
        self.encoder_weights = weights;
        self
    }

    /// Rounds plain matrices of models of language as a mix says, while they are loaded.
    pub fn weights(mut self, mix: Option<Mix>) -> Self {
        self.weights = mix;
        self
    }

    /// Returns the same for a device, with the best executor found out.
    #[must_use]
    pub fn for_device(self, device: &Device) -> Self {
        let kind = match self.kind {
            ExecutorKind::Auto if device.is_cpu() => ExecutorKind::Cpu,
            ExecutorKind::Auto => ExecutorKind::Candle,
            kind => kind,
        };
        Self { kind, ..self }
    }

    /// Returns what matrices of a quantized kind become once they are loaded; `None` for a kind that is multiplied as it
    /// is. No number changes.
    pub fn unpacked_as(self, kind: WeightKind) -> Option<&'static str> {
        let has_grid = kind.is_quantized() && kind.to_kernels().is_some_and(Kind::has_grid);
        has_grid.then_some("four bits of a table")
    }

    /// Returns the kinds that plain matrices are rounded to while they are loaded, by the names of their tensors.
    pub fn rounded(self, spec: &ModelSpec, weights: &Weights) -> HashMap<String, WeightKind> {
        match self.kind {
            ExecutorKind::Candle => HashMap::new(),
            ExecutorKind::Auto | ExecutorKind::Cpu => rounding::rounded(self, spec, weights),
        }
    }

    /// Loads a model.
    ///
    /// # Errors
    /// Those of [`CandleExecutor::load`] or [`CpuExecutor::load`]; [`Error::Device`] if the device has no processor's
    /// executor.
    pub fn load(
        self,
        spec: ModelSpec,
        weights: &Weights,
        device: &Device,
        progress: &ProgressSink,
        cancel: &CancelToken,
    ) -> Result<Box<dyn Executor>, Error> {
        Ok(match self.for_device(device).kind {
            ExecutorKind::Cpu if !device.is_cpu() => {
                let reason = "the executor `cpu` runs on the device `cpu` only".to_owned();
                return Err(Error::Device { name: device.name().to_owned(), reason });
            }
            ExecutorKind::Cpu => Box::new(CpuExecutor::load(spec, weights, device, self, progress, cancel)?),
            ExecutorKind::Auto | ExecutorKind::Candle => {
                Box::new(CandleExecutor::load(spec, weights, device, progress, cancel)?)
            }
        })
    }

    /// Returns how many bytes the weights take once they are loaded, on the processor. `Auto` counts as the executor for
    /// processors.
    pub fn weight_bytes(self, spec: &ModelSpec, weights: &Weights) -> u64 {
        match self.kind {
            ExecutorKind::Candle => candle::weight_bytes(spec, weights),
            ExecutorKind::Auto | ExecutorKind::Cpu => cpu::weight_bytes(self, spec, weights),
        }
    }

    /// Estimates how many bytes a step of `rows` rows computes in, of which `outputs` have logits.
    pub fn scratch_bytes(self, spec: &ModelSpec, rows: usize, outputs: usize) -> u64 {
        scratch::bytes(spec, rows, outputs)
    }

    /// Returns how many bytes a sequence of `tokens` takes at most in layers that cache alike. `Auto` counts as the
    /// executor for processors.
    pub fn state_bytes(self, group: &Group, tokens: usize) -> u64 {
        let block = match self.kind {
            ExecutorKind::Candle => candle::block_bytes(group),
            ExecutorKind::Auto | ExecutorKind::Cpu => cpu::block_bytes(group, self.kv),
        };
        group.blocks_for(tokens) as u64 * block
    }
}

/// Runs the layers of one model over rows of several sequences at once.
///
/// What crosses this seam is plain data: token ids and `f32` slices, no tensor of any library. An executor owns the
/// weights and the store behind every [`SequenceState`] it made.
pub trait Executor: Send {
    /// Returns the model it runs.
    fn spec(&self) -> &ModelSpec;

    /// Returns how many bytes its weights take.
    fn weight_bytes(&self) -> u64;

    /// Returns how many bytes the states of all its sequences take now.
    fn state_bytes(&self) -> u64;

    /// Returns how many bytes of cached keys and values were copied since the model was loaded: only what sequences
    /// shared and then wrote to.
    fn copied_bytes(&self) -> u64;

    /// Returns how many bytes a sequence takes at most while it grows to `tokens`; 0 for a model without state.
    fn bytes_for(&self, tokens: usize) -> u64;

    /// Makes room in `state` for `tokens` more rows. What is cached stays where it is.
    ///
    /// # Errors
    /// [`Error::Memory`] if the device's account does not allow it; `state` is as before then.
    fn append(&mut self, state: &mut SequenceState, tokens: usize) -> Result<(), Error>;

    /// Makes a second state that begins as `state` and grows on its own.
    ///
    /// Both share their blocks; the last, partly filled one is copied by the first that appends to it.
    fn fork(&mut self, state: &SequenceState) -> SequenceState;

    /// Keeps what a sequence has now of what cannot be cut, so that [`rewind`](Self::rewind) can land here. It costs
    /// nothing until the sequence goes on, and then as much as a new sequence; nothing at all where all that is kept is
    /// by position. A sequence has at most [`MAX_CHECKPOINTS`](crate::state::MAX_CHECKPOINTS), the latest.
    fn checkpoint(&mut self, state: &mut SequenceState);

    /// Forgets the end of a sequence, so that `to` tokens stay, and returns how many stayed.
    ///
    /// Fewer than `to` stay where a window has already dropped what the rows before `to` would have to see, or where
    /// layers keep what cannot be cut: then the sequence goes on from the last [`checkpoint`](Self::checkpoint) at or
    /// before `to`, or from its beginning. The position returned says which.
    fn rewind(&mut self, state: &mut SequenceState, to: usize) -> usize;

    /// Returns what a sequence left behind as bytes, its checkpoints excepted.
    ///
    /// # Errors
    /// [`Error::Rows`] if the state is of another executor, [`Error::Compute`] if its device fails.
    fn save(&self, state: &SequenceState) -> Result<SavedState, Error>;

    /// Makes a state of what [`save`](Self::save) returned, of this executor or of another of the same model and kind.
    ///
    /// # Errors
    /// [`Error::Rows`] if the bytes are damaged, or of another model, executor or kind of cache; [`Error::Memory`] if the
    /// device's account does not allow it.
    fn restore(&mut self, saved: &SavedState) -> Result<SequenceState, Error>;

    /// Gives back what a sequence holds.
    fn release(&mut self, state: SequenceState);

    /// Runs `layers` over the rows of all `segments`, and returns the rows that were asked for, in order.
    ///
    /// Each segment with a state must have room for its rows ([`append`](Self::append)); the state holds them
    /// afterwards. A segment's rows see what its state held before and each other, as the model's mask says; rows of
    /// different segments never meet. The rows of all segments share each pass over the weights.
    ///
    /// Takes the device's turn with `priority`, and gives way between layers.
    ///
    /// # Errors
    /// [`Error::Rows`] if the rows do not fit the model or their state, [`Error::Compute`] if the arithmetic fails.
    /// The states of the segments must be released after an error.
    fn run(
        &mut self,
        layers: Range<usize>,
        segments: &mut [Segment<'_>],
        want: Want,
        priority: Priority,
    ) -> Result<Output, Error> {
        let mut output = Output::default();
        self.run_into(layers, segments, want, priority, &mut output)?;
        Ok(output)
    }

    /// As [`run`](Self::run), into the memory of an earlier output.
    ///
    /// # Errors
    /// As [`run`](Self::run); what `output` holds then has no meaning.
    fn run_into(
        &mut self,
        layers: Range<usize>,
        segments: &mut [Segment<'_>],
        want: Want,
        priority: Priority,
        output: &mut Output,
    ) -> Result<(), Error>;
}

/// Consecutive rows of one sequence.
#[derive(Debug)]
pub struct Segment<'a> {
    /// What the rows hold before the first layer of the call.
    pub input: Input<'a>,
    /// What the sequence left behind; `None` for a model without state.
    pub state: Option<&'a mut SequenceState>,
    /// Which rows are wanted.
    pub outputs: Outputs,
    /// The length of the whole sequence as far as it is known, in tokens, for rotations that depend on it. At least
    /// the position of the last row plus one.
    pub span: usize,
}

/// What rows hold.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// One token a row; the call begins at layer 0.
    Tokens(&'a [u32]),
    /// One token and one token type a row, for encoders that know types; the call begins at layer 0.
    TypedTokens(&'a [u32], &'a [u32]),
    /// One hidden state a row, `[rows, hidden_size]`.
    Hidden(&'a [f32]),
}

/// Which rows of a segment are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// None: only the state matters.
    None,
    /// The first row.
    First,
    /// The last row.
    Last,
    /// Every row.
    All,
}

/// What is wanted of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// What the head makes of it, after the final normalisation: logits, scores of a classifier, a vector. Needs the last
    /// layer in the call. A head that takes the mean of rows makes one row of all that are wanted of a segment.
    Head,
    /// The hidden state, after the final normalisation if the last layer is in the call.
    Hidden,
}

/// The wanted rows of all segments, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    values: Vec<f32>,
    width: usize,
}

impl Output {
    /// Wraps `[rows, width]` numbers.
    pub fn new(values: Vec<f32>, width: usize) -> Self {
        Self { values, width }
    }

    /// Makes room for `[rows, width]` numbers, and returns it; what is there is written over.
    pub(crate) fn plan(&mut self, rows: usize, width: usize) -> &mut [f32] {
        self.values.resize(rows * width, 0.0);
        self.width = width;
        &mut self.values
    }

    /// Returns how many numbers a row has.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Iterates over the rows.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.width.max(1))
    }

    /// Iterates over the rows, to be changed in place.
    pub fn rows_mut(&mut self) -> std::slice::ChunksExactMut<'_, f32> {
        self.values.chunks_exact_mut(self.width.max(1))
    }
}

impl Input<'_> {
    /// Returns how many rows there are, given the width of the hidden state.
    pub fn rows(&self, hidden_size: usize) -> usize {
        match self {
            Self::Tokens(tokens) | Self::TypedTokens(tokens, _) => tokens.len(),
            Self::Hidden(values) => values.len() / hidden_size,
        }
    }
}

impl Outputs {
    /// Returns which of `rows` rows are meant.
    pub(crate) fn range(self, rows: usize) -> Range<usize> {
        match self {
            Self::None => 0..0,
            Self::First => 0..rows.min(1),
            Self::Last => rows.saturating_sub(1)..rows,
            Self::All => 0..rows,
        }
    }
}
