//! The reference executor, on candle: every device candle knows, no kernel of ours.

mod altup;
mod attention;
mod experts;
mod latent;
mod load;
mod matrix;
mod mixer;
mod mlp;
mod norm;
mod packed;
mod per_layer;
mod pooled;
mod recurrent;
mod rope;
mod store;

use std::ops::Range;

use candle_core::{Result as CandleResult, Tensor};
use hub_base::{CancelToken, ProgressSink, Reservation};

pub(super) use self::store::block_bytes;
use self::{
    altup::{AltUp, Laurel, Streams},
    load::Loader,
    matrix::{Linear, Matrix},
    mixer::{Mixer, Rows},
    mlp::Mlp,
    norm::{Norm, Norms, maybe},
    per_layer::{PerLayer, PerLayerTable},
    pooled::Pooled,
    rope::Angles,
    store::{LayerCache, TensorBlock},
};

use super::{
    Executor, Input, Output, Segment, Want,
    places::{Place, ends_model, find_places},
    rope::Rope,
    saved::SavedState,
    store::Store,
};
use crate::{Device, Error, device::Priority, spec::ModelSpec, state::SequenceState, weights::Weights};

/// Returns how many bytes the tensors of a specification take on the processor once they are loaded.
pub(super) fn weight_bytes(spec: &ModelSpec, weights: &Weights) -> u64 {
    load::weight_bytes(spec, weights, &candle_core::Device::Cpu)
}

/// Runs a model through candle's tensors, in `f32`; quantized weights stay quantized.
///
/// Equal prompts get equal greedy tokens whatever else shares their steps; logits may differ in the last bits, since
/// candle's matrix product sums in another order for another number of rows.
#[derive(Debug)]
pub struct CandleExecutor {
    spec: ModelSpec,
    device: Device,
    model: Model,
    store: Store<TensorBlock>,
}

/// The weights of a whole model.
#[derive(Debug)]
struct Model {
    table: Matrix,
    positions: Option<Tensor>,
    token_types: Option<Tensor>,
    embedding_norm: Option<Norm>,
    per_layer: Option<PerLayerTable>,
    streams: Option<Streams>,
    layers: Vec<Layer>,
    final_norm: Option<Norm>,
    head: ModelHead,
    ropes: Vec<Rope>,
    reservation: Reservation,
}

/// The weights of one layer.
#[derive(Debug)]
struct Layer {
    mixer: Mixer,
    mixer_norms: Norms,
    mlp: Mlp,
    mlp_norms: Norms,
    residual_scale: f32,
    is_parallel: bool,
    laurel: Option<Laurel>,
    altup: Option<AltUp>,
    per_layer: Option<PerLayer>,
    output_scale: Option<f32>,
}

/// What is computed from the last hidden state.
#[derive(Debug)]
enum ModelHead {
    None,
    Logits { linear: Linear, scale: f32, soft_cap: Option<f32> },
    Pooled(Pooled),
    Beside(Vec<Linear>),
}

impl CandleExecutor {
    /// Loads the tensors that `spec` names from `weights`.
    ///
    /// The device's account pays for all of them before the first is read. Progress counts bytes of the files.
    ///
    /// # Errors
    /// [`Error::Spec`] if the specification and the files do not fit each other, [`Error::WeightKind`] for a tensor of a
    /// kind that cannot be computed with, [`Error::Memory`] if the account does not allow it, [`Error::Cancelled`] once
    /// `cancel` is set.
    pub fn load(
        spec: ModelSpec,
        weights: &Weights,
        device: &Device,
        progress: &ProgressSink,
        cancel: &CancelToken,
    ) -> Result<Self, Error> {
        let model = Loader::new(weights, device, progress, cancel).model(&spec)?;
        let store = Store::new(&spec, device.account().clone(), device.candle().clone());
        Ok(Self { spec, device: device.clone(), model, store })
    }

    /// Returns the rows before the first layer of the call, `[rows, hidden]`.
    fn input(
        &self,
        segments: &[Segment<'_>],
        places: &[Place],
        layers: &Range<usize>,
    ) -> Result<Tensor, Error> {
        let rows = places.iter().map(|place| place.count).sum::<usize>();
        let (mut ids, mut types, mut hidden) = (Vec::new(), Vec::new(), Vec::new());
        for segment in segments {
            match segment.input {
                Input::Tokens(tokens) => {
                    ids.extend_from_slice(tokens);
                    types.resize(types.len() + tokens.len(), 0);
                }
                Input::TypedTokens(tokens, token_types) => {
                    ids.extend_from_slice(tokens);
                    types.extend_from_slice(token_types);
                }
                Input::Hidden(values) => hidden.extend_from_slice(values),
            }
        }
        let fail = |reason: String| Err(Error::Rows { reason });
        if hidden.len() == rows * self.spec.hidden_size && ids.is_empty() {
            let shape = (rows, self.spec.hidden_size);
            return Tensor::from_vec(hidden, shape, self.device.candle())
                .map_err(|source| self.failed(source));
        }
        if layers.start != 0 || ids.len() != rows || types.len() != rows {
            return fail(
                "tokens enter at layer 0, one token and one type a row, and never beside hidden states"
                    .into(),
            );
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.spec.vocab_size) {
            return fail(format!("token {id} is outside the vocabulary of {}", self.spec.vocab_size));
        }
        self.embed(ids, types, places).map_err(|source| self.failed(source))
    }

    /// Returns the tokens of all rows, for what needs them beside their embedding.
    fn tokens(&self, segments: &[Segment<'_>]) -> Result<Vec<u32>, Error> {
        let mut all = Vec::new();
        for segment in segments {
            match segment.input {
                Input::Tokens(tokens) | Input::TypedTokens(tokens, _) => all.extend_from_slice(tokens),
                Input::Hidden(_) => {
                    let reason = "this model's layers need the tokens, not hidden states alone".to_owned();
                    return Err(Error::Rows { reason });
                }
            }
        }
        Ok(all)
    }

    fn embed(&self, ids: Vec<u32>, types: Vec<u32>, places: &[Place]) -> CandleResult<Tensor> {
        let (rows, device) = (ids.len(), self.device.candle());
        let mut x = self.model.table.rows(&Tensor::from_vec(ids, rows, device)?)?;
        if self.spec.embedding.scale != 1.0 {
            x = (x * f64::from(self.spec.embedding.scale))?;
        }
        if let (Some(table), Some(positions)) = (&self.model.positions, &self.spec.embedding.positions) {
            let at = |place: &Place| place.position..place.position + place.count;
            let at =
                places.iter().flat_map(at).map(|position| (position + positions.offset) as u32).collect();
            x = (x + table.index_select(&Tensor::from_vec(at, rows, device)?, 0)?)?;
        }
        if let Some(table) = &self.model.token_types {
            x = (x + table.index_select(&Tensor::from_vec(types, rows, device)?, 0)?)?;
        }
        maybe(&self.model.embedding_norm, &x)
    }

    /// Runs a layer on all residual streams; most models have one.
    fn layer(
        &self,
        index: usize,
        streams: &[Tensor],
        segments: &[Segment<'_>],
        places: &[Place],
        angles: &[Angles],
        parts: Option<&Tensor>,
    ) -> CandleResult<Vec<Tensor>> {
        let Layer { altup, per_layer, output_scale, .. } = &self.model.layers[index];
        let part = |x: &Tensor| match (per_layer, parts) {
            (Some(per_layer), Some(parts)) => per_layer.forward(x, index, parts).map(Some),
            _ => Ok(None),
        };
        let Some(altup) = altup else {
            let mut x = self.sublayers(index, &streams[0], segments, places, angles)?;
            if let Some(part) = part(&x)? {
                x = (x + part)?;
            }
            return Ok(vec![match output_scale {
                Some(scale) => (x * f64::from(*scale))?,
                None => x,
            }]);
        };
        let predicted = altup.predict(streams)?;
        let made = self.sublayers(index, &predicted[0], segments, places, angles)?;
        let mut streams = altup.correct(&predicted, &made)?;
        if let Some(part) = part(&altup.scaled(&streams[0])?)? {
            for stream in &mut streams[1..] {
                *stream = (&*stream + &part)?;
            }
        }
        Ok(streams)
    }

    /// Runs the mixer and the MLP of a layer on rows `x`, `[rows, hidden]`.
    fn sublayers(
        &self,
        index: usize,
        x: &Tensor,
        segments: &[Segment<'_>],
        places: &[Place],
        angles: &[Angles],
    ) -> CandleResult<Tensor> {
        let layer = &self.model.layers[index];
        let keeper = self.spec.layers[index].mixer.keeper(index);
        let rows = segments.iter().zip(places).map(|(segment, place)| Rows {
            start: place.start,
            count: place.count,
            position: place.position,
            cache: segment.state.as_deref().and_then(|state| LayerCache::of(&self.store, state, keeper)),
        });
        let rows: Vec<Rows<'_>> = rows.collect();
        let ropes = (self.model.ropes.as_slice(), angles);
        if layer.is_parallel {
            return layer.mixer_norms.around(x, layer.residual_scale, |x| {
                layer.mixer.forward(x, &rows, ropes)? + layer.mlp.forward(x, x)?
            });
        }
        let mut residual =
            layer.mixer_norms.around(x, layer.residual_scale, |x| layer.mixer.forward(x, &rows, ropes))?;
        if let Some(laurel) = &layer.laurel {
            residual = laurel.add(&residual, &maybe(&layer.mixer_norms.before, x)?)?;
        }
        layer.mlp_norms.around(&residual, layer.residual_scale, |x| layer.mlp.forward(x, &residual))
    }

    /// Keeps the rows that were asked for, `[rows, hidden]`; `None` if there are none.
    fn wanted(&self, x: &Tensor, segments: &[Segment<'_>], places: &[Place]) -> CandleResult<Option<Tensor>> {
        let rows = segments.iter().zip(places).flat_map(|(segment, place)| {
            segment.outputs.range(place.count).map(|row| (place.start + row) as u32)
        });
        let rows: Vec<u32> = rows.collect();
        match rows.len() {
            0 => Ok(None),
            count if count == x.dim(0)? => Ok(Some(x.clone())),
            count => x.index_select(&Tensor::from_vec(rows, count, x.device())?, 0).map(Some),
        }
    }

    /// Computes what is wanted of the rows that were asked for, of which `counts` says how many each segment has.
    fn finish(
        &self,
        x: &Tensor,
        counts: impl Iterator<Item = usize>,
        is_last: bool,
        want: Want,
    ) -> CandleResult<Tensor> {
        let x = if is_last { maybe(&self.model.final_norm, x)? } else { x.clone() };
        match (&self.model.head, want) {
            (_, Want::Hidden) | (ModelHead::None, Want::Head) => Ok(x),
            (ModelHead::Logits { linear, scale, soft_cap }, Want::Head) => {
                let logits = linear.forward(&x)?;
                let logits = if *scale == 1.0 { logits } else { (logits * f64::from(*scale))? };
                match soft_cap {
                    Some(cap) => (logits / f64::from(*cap))?.tanh()? * f64::from(*cap),
                    None => Ok(logits),
                }
            }
            (ModelHead::Pooled(pooled), Want::Head) => pooled.forward(&x, counts),
            (ModelHead::Beside(linears), Want::Head) => {
                let made = linears.iter().map(|linear| linear.forward(&x));
                let all = [Ok(x.clone())].into_iter().chain(made).collect::<CandleResult<Vec<_>>>()?;
                Tensor::cat(&all, 1)
            }
        }
    }

    fn compute(
        &self,
        layers: Range<usize>,
        segments: &[Segment<'_>],
        places: &[Place],
        want: Want,
        priority: Priority,
    ) -> Result<Output, Error> {
        let mut pass = self.device.gate().enter(priority);
        let failed = |source| self.failed(source);
        let x = self.input(segments, places, &layers)?;
        let spans: Vec<_> = places.iter().map(|place| (place.position, place.count, place.span)).collect();
        let angles = self.model.ropes.iter().map(|rope| Angles::of(rope, &spans, self.device.candle()));
        let angles = angles.collect::<CandleResult<Vec<_>>>().map_err(failed)?;
        let is_last = layers.end == self.spec.layers.len();
        let parts = match &self.model.per_layer {
            Some(table) => Some(table.parts(&x, &self.tokens(segments)?).map_err(failed)?),
            None => None,
        };
        let mut streams = match &self.model.streams {
            Some(streams) => streams.split(x).map_err(failed)?,
            None => vec![x],
        };
        for index in layers {
            streams =
                self.layer(index, &streams, segments, places, &angles, parts.as_ref()).map_err(failed)?;
            pass.give_way();
        }
        let x = match &self.model.streams {
            Some(merged) => merged.merge(&streams).map_err(failed)?,
            None => streams.remove(0),
        };
        let Some(x) = self.wanted(&x, segments, places).map_err(failed)? else {
            return Ok(Output::default());
        };
        let counts = segments.iter().zip(places);
        let counts = counts.map(|(segment, place)| segment.outputs.range(place.count).len());
        let output = self.finish(&x, counts, is_last, want).map_err(failed)?;
        let width = output.dim(1).map_err(failed)?;
        let values = output.flatten_all().and_then(|flat| flat.to_vec1()).map_err(failed)?;
        Ok(Output::new(values, width))
    }

    fn failed(&self, source: candle_core::Error) -> Error {
        Error::Compute { device: self.device.name().to_owned(), source }
    }
}

impl Executor for CandleExecutor {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn weight_bytes(&self) -> u64 {
        self.model.reservation.bytes()
    }

    fn state_bytes(&self) -> u64 {
        self.store.bytes()
    }

    fn bytes_for(&self, tokens: usize) -> u64 {
        self.store.bytes_for(tokens)
    }

    fn copied_bytes(&self) -> u64 {
        self.store.copied_bytes()
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
        self.store.save(&self.spec, "candle", state)
    }

    fn restore(&mut self, saved: &SavedState) -> Result<SequenceState, Error> {
        self.store.restore(&self.spec, "candle", saved)
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
        let mut places = Vec::new();
        find_places(&self.spec, segments, &mut places)?;
        *output = self.compute(layers, segments, &places, want, priority)?;
        if is_last {
            for (segment, place) in segments.iter_mut().zip(&places) {
                if let Some(state) = &mut segment.state {
                    self.store.advance(state, place.count);
                }
            }
        }
        Ok(())
    }
}
