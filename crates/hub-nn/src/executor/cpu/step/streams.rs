//! Several residual streams in place of one (AltUp).

use super::{Pending, Step};
use crate::executor::cpu::{Layer, Linear, altup::AltUp, layer::maybe, plan::Scratch};

impl Step<'_> {
    /// Makes the other residual streams of the first, if there are any.
    pub(super) fn split_streams(&self, scratch: &mut Scratch, rows: usize) {
        let Some(streams) = &self.model.streams else { return };
        let Scratch { x, inputs, streams: room, .. } = scratch;
        let width = self.spec.hidden_size;
        streams.split(&x[..rows * width], width, inputs, room, self.cpu);
    }

    /// Makes one residual of all streams, if there are several.
    pub(super) fn merge_streams(&self, scratch: &mut Scratch, rows: usize) {
        let Some(streams) = &self.model.streams else { return };
        let Scratch { x, inputs, streams: room, .. } = scratch;
        let width = self.spec.hidden_size;
        streams.merge(&mut x[..rows * width], width, inputs, room, self.cpu);
    }

    /// Corrects all residual streams by what the layer made of the first, and adds the layer's part of the second
    /// embedding to the others.
    pub(super) fn correct(
        &self,
        scratch: &mut Scratch,
        (layer, altup, index): (&Layer, &AltUp, usize),
        pending: Pending<'_>,
        rows: usize,
    ) {
        self.norm_in(scratch, rows, Some(pending), Some(&altup.router_norm), altup.inputs());
        let Scratch { x, y, inputs, inner, parts, streams, .. } = scratch;
        let (width, cpu) = (self.spec.hidden_size, self.cpu);
        altup.correct(&x[..rows * width], width, inputs, streams, cpu);
        let Some(per_layer) = &layer.per_layer else { return };
        altup.gate_inputs((rows, width), inputs, Linear::forms([&per_layer.gate]), streams, cpu);
        let y = &mut y[..rows * width];
        per_layer.run(inputs, index, (parts, self.spec.layers.len()), inner, y, cpu);
        cpu.each_chunk(y, width, |_, y| maybe(per_layer.norms.after.as_ref(), y, cpu.isa()));
        altup.add_to_others(y, width, streams, cpu);
    }
}
