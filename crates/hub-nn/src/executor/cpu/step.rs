//! One step: the rows of all segments through some layers.

mod attention;
mod enter;
mod finish;
mod mlp;
mod streams;

use std::ops::Range;

use hub_kernels::{Cpu, Forms, Sequence, Stream};

use super::{
    CacheBlock, Model, Norm,
    layer::{Mixer, Norms, maybe},
    plan::{Lists, Scratch, emptied},
};
use crate::{
    Error, Pass,
    executor::places::Place,
    executor::rope::Rotations,
    executor::store::Store,
    executor::{Output, Segment, Want},
    spec::ModelSpec,
};

/// A step with what it reads.
pub(super) struct Step<'a> {
    pub(super) spec: &'a ModelSpec,
    pub(super) model: &'a Model,
    pub(super) store: &'a Store<CacheBlock>,
    pub(super) cpu: &'a Cpu,
    pub(super) segments: &'a [Segment<'a>],
    pub(super) places: &'a [Place],
}

/// What a layer has of the sequences of a step: by position, or as a whole.
#[derive(Clone, Copy)]
struct Cached<'a> {
    sequences: &'a [Sequence<'a>],
    streams: &'a [Stream<'a>],
    /// Which layer of their blocks it is.
    within: usize,
}

/// A sublayer's output that is not yet part of the residual.
#[derive(Clone, Copy)]
struct Pending<'a> {
    norms: &'a Norms,
    scale: f32,
    /// What the sum is multiplied with.
    then: f32,
}

impl Step<'_> {
    pub(super) fn run(
        &self,
        scratch: &mut Scratch,
        layers: Range<usize>,
        want: Want,
        pass: &mut Pass<'_>,
        output: &mut Output,
    ) -> Result<(), Error> {
        let rows = self.places.iter().map(|place| place.count).sum::<usize>();
        scratch.plan(rows, self.model.widths);
        self.enter(&mut scratch.x, &layers)?;
        self.make_parts(scratch)?;
        self.split_streams(scratch, rows);
        self.rotate(&mut scratch.rotations);
        scratch.positions.clear();
        scratch
            .positions
            .extend(self.places.iter().flat_map(|place| place.position..place.position + place.count));
        let mut lists = std::mem::take(&mut scratch.lists);
        let Lists { wanted, blocks: kept_blocks, sequences: kept, streams: kept_streams, own } = &mut lists;
        self.find_wanted(wanted);
        self.make_own_blocks(own);
        let mut blocks = emptied(std::mem::take(kept_blocks));
        self.find_blocks(own, &mut blocks)?;
        let mut sequences = emptied(std::mem::take(kept));
        self.find_sequences(own, &blocks, &mut sequences);
        let mut streams = emptied(std::mem::take(kept_streams));
        self.find_streams(&mut streams)?;

        let is_last = layers.end == self.spec.layers.len();
        let of_layer = |layer: usize| match &self.model.layers[layer].mixer {
            Mixer::Attention(_) | Mixer::Latent(_) => {
                let keeper = self.spec.layers[layer].mixer.keeper(layer);
                let (sequences, within) = self.sequences_of(keeper, &sequences, own);
                Cached { sequences, streams: &[], within }
            }
            _ => {
                let (streams, within) = self.streams_of(layer, &streams);
                Cached { sequences: &[], streams, within }
            }
        };
        let pending = self.layers(scratch, layers, wanted, of_layer, rows, pass);
        *kept = emptied(sequences);
        *kept_streams = emptied(streams);
        *kept_blocks = emptied(blocks);
        let rows = wanted.len();
        scratch.lists = lists;
        if rows == 0 {
            output.plan(0, 0);
        } else {
            self.merge_streams(scratch, rows);
            self.finish(scratch, rows, pending, is_last, want, output);
        }
        Ok(())
    }

    /// Runs the layers, the last of them for the wanted rows alone, and returns what its MLP leaves to be added.
    fn layers<'b>(
        &self,
        scratch: &mut Scratch,
        layers: Range<usize>,
        wanted: &[usize],
        of_layer: impl Fn(usize) -> Cached<'b>,
        mut rows: usize,
        pass: &mut Pass<'_>,
    ) -> Option<Pending<'_>> {
        let mut pending = None;
        for index in layers.clone() {
            let layer = &self.model.layers[index];
            if let Some(altup) = &layer.altup {
                let Scratch { x, inputs, streams, .. } = &mut *scratch;
                altup.predict(
                    &mut x[..rows * self.spec.hidden_size],
                    self.spec.hidden_size,
                    inputs,
                    streams,
                    self.cpu,
                );
            }
            self.mix(scratch, layer, of_layer(index), rows, pending);
            if index + 1 == layers.end && wanted.len() < rows {
                // What follows works on each row alone, and the others are not asked for.
                keep(&mut scratch.x, self.spec.hidden_size, wanted);
                keep(&mut scratch.mixed, layer.mixer.output().matrix.cols(), wanted);
                if layer.is_parallel || layer.laurel.is_some() {
                    scratch.keep_inputs(wanted, self.cpu);
                }
                if let Some(table) = &self.model.per_layer {
                    keep(&mut scratch.parts.all, table.projection.rows(), wanted);
                }
                if let Some(altup) = &layer.altup {
                    let width = altup.router.rows() * self.spec.hidden_size;
                    keep(&mut scratch.streams.predicted, width, wanted);
                }
                rows = wanted.len();
                if rows == 0 {
                    return None;
                }
            }
            if let Some(laurel) = &layer.laurel {
                let Scratch { x, inputs, laurel: room, .. } = &mut *scratch;
                let x = &mut x[..rows * self.spec.hidden_size];
                laurel.add(x, layer.mixer_norms.before.as_ref(), inputs, room, self.cpu);
            }
            self.project(scratch, layer, rows);
            if layer.is_parallel {
                self.add_mixer(scratch, layer, rows);
            } else {
                self.norm_for_mlp(scratch, layer, rows);
            }
            self.mlp(scratch, layer, rows);
            pending = self.take_part(scratch, layer, index, rows);
            pass.give_way();
        }
        if layers.is_empty() {
            keep(&mut scratch.x, self.spec.hidden_size, wanted);
        }
        pending
    }

    /// Computes how the rows turn.
    fn rotate(&self, rotations: &mut Vec<Rotations>) {
        rotations.resize_with(self.model.ropes.len(), Rotations::default);
        for (rope, rotations) in self.model.ropes.iter().zip(rotations) {
            rope.rotations(
                self.places.iter().map(|place| (place.position, place.count, place.span)),
                rotations,
            );
        }
    }

    /// Takes in what the last sublayer returned, and makes the inputs of the next one: residual, norm, rounding.
    fn norm_in(
        &self,
        scratch: &mut Scratch,
        rows: usize,
        pending: Option<Pending<'_>>,
        before: Option<&Norm>,
        forms: Forms,
    ) {
        let (width, isa) = (self.spec.hidden_size, self.cpu.isa());
        let Scratch { x, y, inputs, .. } = scratch;
        inputs.fill_beside(forms, rows, width, self.cpu, &mut x[..rows * width], |row, x, out| {
            if let Some(Pending { norms, scale, then }) = pending {
                norms.add(x, &y[row * width..(row + 1) * width], scale, out, isa);
                if then != 1.0 {
                    x.iter_mut().for_each(|number| *number *= then);
                }
            }
            out.copy_from_slice(x);
            maybe(before, out, isa);
        });
    }
}

/// Moves some rows to the front.
fn keep(buffer: &mut [f32], width: usize, rows: &[usize]) {
    for (to, from) in rows.iter().enumerate() {
        buffer.copy_within(from * width..(from + 1) * width, to * width);
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
