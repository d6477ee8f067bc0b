//! What a layer takes of the rows before: attention, or what stands in its place.

use hub_kernels::{multiply, rotate_halves, rotate_pairs};

use super::{Cached, Pending, Step, sigmoid};
use crate::executor::cpu::{
    Layer, Norm,
    layer::{Attend, Mixer, OwnKv, maybe},
    plan::Scratch,
};
use crate::{
    executor::rope::{Rope, Rotations},
    spec::{NormScope, Pairing},
};

impl Step<'_> {
    /// Lets rows see others: up to what the mixer's output matrix is multiplied with.
    pub(super) fn mix(
        &self,
        scratch: &mut Scratch,
        layer: &Layer,
        cached: Cached<'_>,
        rows: usize,
        pending: Option<Pending<'_>>,
    ) {
        let mut forms = layer.mixer.inputs();
        if layer.is_parallel {
            forms = forms.and(layer.mlp.inputs());
        }
        if let Some(laurel) = &layer.laurel {
            forms = forms.and(laurel.inputs());
        }
        self.norm_in(scratch, rows, pending, layer.mixer_norms.before.as_ref(), forms);
        let streams = (cached.streams, cached.within);
        let Scratch { mixed, inputs, recurrent: room, latent: latent_room, attention, rotations, .. } =
            scratch;
        match &layer.mixer {
            Mixer::Attention(attend) => self.attend(scratch, attend, cached, rows),
            Mixer::Latent(latent) => {
                let rope = (&self.model.ropes[latent.rope], &rotations[latent.rope]);
                let sequences = (cached.sequences, cached.within);
                let mixed = &mut mixed[..rows * latent.output.matrix.cols()];
                latent.mix(inputs, sequences, rope, mixed, (latent_room, attention), self.cpu);
            }
            Mixer::Recurrent(recurrent) => {
                recurrent.mix(inputs, streams, &mut mixed[..rows * recurrent.inner()], room, self.cpu);
            }
            Mixer::ShortConv(conv) => {
                let mixed = &mut mixed[..rows * self.spec.hidden_size];
                conv.mix(inputs, streams, mixed, room, self.cpu);
            }
        }
    }

    /// Lets rows look at each other: up to the mean of the values.
    pub(super) fn attend(&self, scratch: &mut Scratch, layer: &Attend, cached: Cached<'_>, rows: usize) {
        let (sequences, within) = (cached.sequences, cached.within);
        let Attend { query, attention, .. } = layer;
        let Scratch { queries, keys, values, mixed, inputs, rotations, positions, attention: memory, .. } =
            scratch;
        let queries = &mut queries[..rows * query.rows()];
        let mixed = &mut mixed[..rows * query.rows()];
        let (dim, scope) = (attention.head_dim, layer.norm_scope);
        let rope = layer.rope.map(|rope| (&self.model.ropes[rope], &rotations[rope]));
        match &layer.kv {
            None => multiply(&mut [query.product(inputs, queries)], self.cpu),
            Some(OwnKv { key, value, key_norm, value_norm }) => {
                let keys = &mut keys[..rows * key.rows()];
                let values = &mut values[..rows * value.rows()];
                let products = [
                    query.product(inputs, queries),
                    key.product(inputs, keys),
                    value.product(inputs, values),
                ];
                multiply(&mut { products }, self.cpu);
                self.prepare(keys, key.rows(), dim, (key_norm.as_ref(), scope), rope);
                if value_norm.is_some() {
                    self.prepare(values, value.rows(), dim, (value_norm.as_ref(), NormScope::Head), None);
                }
                attention.write(keys, values, sequences, within, self.cpu);
            }
        }
        self.prepare(queries, query.rows(), dim, (layer.query_norm.as_ref(), scope), rope);
        if let Some(temperature) = layer.temperature {
            self.cpu.each_chunk(queries, query.rows(), |row, queries| {
                let factor = temperature.at(positions[row]);
                queries.iter_mut().for_each(|query| *query *= factor);
            });
        }
        attention.attend(queries, sequences, within, mixed, memory, self.cpu);
        if let Some(gates) = &layer.gate {
            // The queries have been read.
            multiply(&mut [gates.product(inputs, queries)], self.cpu);
            let width = query.rows();
            let gates = &*queries;
            self.cpu.each_chunk(mixed, width, |row, mixed| {
                let gates = &gates[row * width..(row + 1) * width];
                mixed.iter_mut().zip(gates).for_each(|(mixed, gate)| *mixed *= sigmoid(*gate));
            });
        }
    }

    /// Normalises and rotates the heads of rows of queries or keys.
    pub(super) fn prepare(
        &self,
        rows: &mut [f32],
        width: usize,
        head_dim: usize,
        (norm, scope): (Option<&Norm>, NormScope),
        rope: Option<(&Rope, &Rotations)>,
    ) {
        let isa = self.cpu.isa();
        self.cpu.each_chunk(rows, width, |row, heads| {
            if scope == NormScope::Row {
                maybe(norm, heads, isa);
            }
            for (index, head) in heads.chunks_exact_mut(head_dim).enumerate() {
                match (norm, scope) {
                    (Some(norm), NormScope::Head) => norm.apply(head, isa),
                    (Some(norm), NormScope::EachHead) => norm.apply_from(index * head_dim, head, isa),
                    _ => {}
                }
                let Some((rope, rotations)) = rope else { continue };
                let pairs = rope.spec().dims / 2;
                let (cos, sin) =
                    (&rotations.cos[row * pairs..][..pairs], &rotations.sin[row * pairs..][..pairs]);
                match rope.spec().pairing {
                    Pairing::Halves => rotate_halves(head, cos, sin, isa),
                    Pairing::Interleaved => rotate_pairs(head, cos, sin),
                }
            }
        });
    }
}
