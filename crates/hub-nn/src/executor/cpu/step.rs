//! One step: the rows of all segments through some layers.

use std::ops::Range;

use hub_kernels::{
    Activations, Cpu, Forms, Function, Isa, Sequence, Stream, add_scaled, apply, gate, multiply,
    rotate_halves, rotate_pairs,
};

use super::{
    CacheBlock, Layer, Linear, Model, ModelHead, Norm,
    altup::AltUp,
    layer::{Attend, Dense, Mixer, Mlp, Norms, OwnKv, maybe},
    means::cut,
    plan::{Lists, Scratch, emptied},
    pooled::beside,
};
use crate::{
    Error, Pass,
    executor::{
        Input, Output, Segment, Want,
        places::Place,
        rope::{Rope, Rotations},
        store::Store,
    },
    spec::{ModelSpec, NormScope, Pairing},
};

/// How many logits a thread bends at once.
const LOGITS: usize = 4096;

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

    /// Makes the other residual streams of the first, if there are any.
    fn split_streams(&self, scratch: &mut Scratch, rows: usize) {
        let Some(streams) = &self.model.streams else { return };
        let Scratch { x, inputs, streams: room, .. } = scratch;
        let width = self.spec.hidden_size;
        streams.split(&x[..rows * width], width, inputs, room, self.cpu);
    }

    /// Makes one residual of all streams, if there are several.
    fn merge_streams(&self, scratch: &mut Scratch, rows: usize) {
        let Some(streams) = &self.model.streams else { return };
        let Scratch { x, inputs, streams: room, .. } = scratch;
        let width = self.spec.hidden_size;
        streams.merge(&mut x[..rows * width], width, inputs, room, self.cpu);
    }

    /// Corrects all residual streams by what the layer made of the first, and adds the layer's part of the second
    /// embedding to the others.
    fn correct(
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

    /// Adds the layer's part of the second embedding, and returns what is left to be added.
    fn take_part<'l>(
        &self,
        scratch: &mut Scratch,
        layer: &'l Layer,
        index: usize,
        rows: usize,
    ) -> Option<Pending<'l>> {
        let pending =
            Pending { norms: &layer.mlp_norms, scale: layer.residual_scale, then: layer.output_scale };
        if let Some(altup) = &layer.altup {
            self.correct(scratch, (layer, altup, index), pending, rows);
            return None;
        }
        let Some(per_layer) = &layer.per_layer else { return Some(pending) };
        let pending = Pending { then: 1.0, ..pending };
        self.norm_in(scratch, rows, Some(pending), None, Linear::forms([&per_layer.gate]));
        let Scratch { y, inputs, inner, parts, .. } = scratch;
        let y = &mut y[..rows * self.spec.hidden_size];
        per_layer.run(inputs, index, (parts, self.spec.layers.len()), inner, y, self.cpu);
        Some(Pending { norms: &per_layer.norms, scale: 1.0, then: layer.output_scale })
    }

    /// Computes the parts of the second embedding.
    fn make_parts(&self, scratch: &mut Scratch) -> Result<(), Error> {
        let Some(table) = &self.model.per_layer else { return Ok(()) };
        let Scratch { x, inputs, parts, .. } = scratch;
        parts.tokens.clear();
        let fail = |reason: String| Err(Error::Rows { reason });
        for segment in self.segments {
            match segment.input {
                Input::Tokens(tokens) | Input::TypedTokens(tokens, _) => {
                    parts.tokens.extend_from_slice(tokens);
                }
                Input::Hidden(_) => {
                    return fail("this model's layers need the tokens, not hidden states alone".to_owned());
                }
            }
        }
        for token in parts.tokens.iter_mut().filter(|token| **token as usize >= table.vocab_size) {
            match table.other_token {
                Some(other) => *token = other,
                None => {
                    let known = table.vocab_size;
                    return fail(format!("token {token} is outside the second embedding of {known}"));
                }
            }
        }
        table.fill(x, inputs, parts, self.cpu);
        Ok(())
    }

    /// Writes the rows before the first layer of the call.
    fn enter(&self, x: &mut [f32], layers: &Range<usize>) -> Result<(), Error> {
        let width = self.spec.hidden_size;
        let fail = |reason: String| Err(Error::Rows { reason });
        let is_hidden = |segment: &Segment<'_>| matches!(segment.input, Input::Hidden(_));
        let hidden = self.segments.iter().filter(|segment| is_hidden(segment)).count();
        if hidden == self.segments.len() {
            for (segment, place) in self.segments.iter().zip(self.places) {
                if let Input::Hidden(values) = segment.input {
                    x[place.start * width..(place.start + place.count) * width].copy_from_slice(values);
                }
            }
            return Ok(());
        }
        if hidden > 0 || layers.start != 0 {
            return fail("tokens enter at layer 0, and never beside hidden states".to_owned());
        }
        for (segment, place) in self.segments.iter().zip(self.places) {
            let (tokens, types) = match segment.input {
                Input::Tokens(tokens) => (tokens, None),
                Input::TypedTokens(tokens, types) => (tokens, Some(types)),
                Input::Hidden(_) => continue,
            };
            if types.is_some_and(|types| types.len() != tokens.len()) {
                return fail("there is one type for each token".to_owned());
            }
            if let Some(id) = tokens.iter().find(|id| **id as usize >= self.spec.vocab_size) {
                return fail(format!("token {id} is outside the vocabulary of {}", self.spec.vocab_size));
            }
            let part = &mut x[place.start * width..(place.start + place.count) * width];
            let type_of = |row: usize| types.map_or(0, |types| types[row] as usize);
            if let Some(known) = &self.model.token_types
                && let Some(row) = (0..tokens.len()).find(|row| known.row(type_of(*row)).is_none())
            {
                return fail(format!("there is no token type {}", type_of(row)));
            }
            self.cpu.each_chunk(part, width, |row, out| {
                self.embed(tokens[row] as usize, type_of(row), place.position + row, out);
            });
        }
        Ok(())
    }

    fn embed(&self, token: usize, token_type: usize, position: usize, out: &mut [f32]) {
        let Model { table, positions, token_types, embedding_norm, .. } = self.model;
        let spec = &self.spec.embedding;
        table.unpack(token, out);
        if spec.scale != 1.0 {
            out.iter_mut().for_each(|number| *number *= spec.scale);
        }
        let learned = positions.as_ref().zip(spec.positions.as_ref());
        let learned = learned.and_then(|(table, learned)| table.row(position + learned.offset));
        let typed = token_types.as_ref().and_then(|table| table.row(token_type));
        for row in [learned, typed].into_iter().flatten() {
            out.iter_mut().zip(row).for_each(|(out, number)| *out += number);
        }
        maybe(embedding_norm.as_ref(), out, self.cpu.isa());
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

    /// Lets rows see others: up to what the mixer's output matrix is multiplied with.
    fn mix(
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
    fn attend(&self, scratch: &mut Scratch, layer: &Attend, cached: Cached<'_>, rows: usize) {
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
    fn prepare(
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

    /// Multiplies the means of the values with the output matrix.
    fn project(&self, scratch: &mut Scratch, layer: &Layer, rows: usize) {
        // The inputs may be of use to the MLP still.
        let Scratch { y, mixed, inner: inputs, .. } = scratch;
        let output = layer.mixer.output();
        let width = output.matrix.cols();
        inputs.fill(Linear::forms([output]), rows, width, self.cpu, |row, out| {
            out.copy_from_slice(&mixed[row * width..(row + 1) * width]);
        });
        let y = &mut y[..rows * self.spec.hidden_size];
        multiply(&mut [output.product(inputs, y)], self.cpu);
    }

    /// Makes the inputs of the MLP out of what the mixer returned.
    fn norm_for_mlp(&self, scratch: &mut Scratch, layer: &Layer, rows: usize) {
        let then = layer.laurel.as_ref().map_or(1.0, |laurel| laurel.scale);
        let pending = Pending { norms: &layer.mixer_norms, scale: layer.residual_scale, then };
        self.norm_in(scratch, rows, Some(pending), layer.mlp_norms.before.as_ref(), layer.mlp.inputs());
    }

    /// Adds what the mixer returned, where the MLP's inputs are the mixer's own.
    fn add_mixer(&self, scratch: &mut Scratch, layer: &Layer, rows: usize) {
        let (width, isa) = (self.spec.hidden_size, self.cpu.isa());
        let Scratch { x, y, .. } = scratch;
        let outputs = &*y;
        self.cpu.each_chunk(&mut x[..rows * width], width, |row, x| {
            add_scaled(x, &outputs[row * width..(row + 1) * width], layer.residual_scale);
            maybe(layer.mixer_norms.last.as_ref(), x, isa);
        });
    }

    /// Runs the MLP.
    fn mlp(&self, scratch: &mut Scratch, layer: &Layer, rows: usize) {
        let Scratch { x, y, gate, up, inputs, inner, experts: room, apart: apart_room, .. } = scratch;
        let hidden = self.spec.hidden_size;
        let y = &mut y[..rows * hidden];
        let experts = match &layer.mlp {
            Mlp::Dense(dense) => return self.dense(dense, inputs, (gate, up), inner, y),
            Mlp::Experts(experts) => experts,
        };
        match &experts.shared {
            None => y.fill(0.0),
            Some((dense, counts)) => {
                self.dense(dense, inputs, (gate, up), inner, y);
                if let Some(counts) = counts {
                    let shares = &mut gate[..rows];
                    multiply(&mut [counts.product(inputs, shares)], self.cpu);
                    for (row, share) in y.chunks_exact_mut(hidden).zip(shares) {
                        let share = sigmoid(*share);
                        row.iter_mut().for_each(|number| *number *= share);
                    }
                }
            }
        }
        match &experts.apart {
            Some(norms) => experts.add_apart(norms, x, y, (apart_room, room), self.cpu),
            None => experts.add(inputs, inputs, y, room, self.cpu),
        }
    }

    /// Runs one MLP.
    fn dense(
        &self,
        mlp: &Dense,
        x: &Activations,
        (gates, ups): (&mut [f32], &mut [f32]),
        inner: &mut Activations,
        out: &mut [f32],
    ) {
        let (rows, width) = (x.tokens(), mlp.gate.rows());
        let (gates, ups) = (&mut gates[..rows * width], &mut ups[..rows * width]);
        match &mlp.up {
            Some(up) => multiply(&mut [mlp.gate.product(x, gates), up.product(x, ups)], self.cpu),
            None => multiply(&mut [mlp.gate.product(x, gates)], self.cpu),
        }
        let (gates, ups, isa) = (&*gates, &*ups, self.cpu.isa());
        inner.fill(Linear::forms([&mlp.down]), rows, width, self.cpu, |row, out| {
            let part = row * width..(row + 1) * width;
            out.copy_from_slice(&gates[part.clone()]);
            if let Some(sparsity) = mlp.sparsity {
                cut(out, sparsity);
            }
            match mlp.up {
                Some(_) => gate(mlp.function, out, &ups[part], isa),
                None => apply(mlp.function, out, isa),
            }
        });
        multiply(&mut [mlp.down.product(inner, out)], self.cpu);
    }

    /// Computes what is wanted of the rows that are left.
    fn finish(
        &self,
        scratch: &mut Scratch,
        rows: usize,
        pending: Option<Pending<'_>>,
        is_last: bool,
        want: Want,
        output: &mut Output,
    ) {
        let width = self.spec.hidden_size;
        let norm = self.model.final_norm.as_ref().filter(|_| is_last);
        match (&self.model.head, want) {
            (_, Want::Hidden) | (ModelHead::None, Want::Head) => {
                self.norm_last(scratch, rows, pending, norm);
                output.plan(rows, width).copy_from_slice(&scratch.x[..rows * width]);
            }
            (ModelHead::Logits { linear, scale, soft_cap }, Want::Head) => {
                self.norm_in(scratch, rows, pending, norm, Linear::forms([linear]));
                let logits = output.plan(rows, linear.rows());
                multiply(&mut [linear.product(&scratch.inputs, logits)], self.cpu);
                if *scale != 1.0 || soft_cap.is_some() {
                    let cap =
                        |_, logits: &mut [f32]| scale_and_cap(logits, *scale, *soft_cap, self.cpu.isa());
                    self.cpu.each_chunk(logits, LOGITS, cap);
                }
            }
            (ModelHead::Pooled(pooled), Want::Head) => {
                self.norm_last(scratch, rows, pending, norm);
                let counts = self.segments.iter().zip(self.places);
                let counts = counts.map(|(segment, place)| segment.outputs.range(place.count).len());
                pooled.run(&scratch.x[..rows * width], counts, output, self.cpu);
            }
            (ModelHead::Beside(linears), Want::Head) => {
                self.norm_last(scratch, rows, pending, norm);
                beside(linears, &scratch.x[..rows * width], width, output, self.cpu);
            }
        }
    }

    /// Takes in what the last sublayer returned, and normalises rows in place.
    fn norm_last(
        &self,
        scratch: &mut Scratch,
        rows: usize,
        pending: Option<Pending<'_>>,
        norm: Option<&Norm>,
    ) {
        let width = self.spec.hidden_size;
        self.norm_in(scratch, rows, pending, None, Forms::default());
        let x = &mut scratch.x[..rows * width];
        self.cpu.each_chunk(x, width, |_, row| maybe(norm, row, self.cpu.isa()));
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Scales logits, and bends them so that none passes the cap.
fn scale_and_cap(logits: &mut [f32], scale: f32, cap: Option<f32>, isa: Isa) {
    let Some(cap) = cap else {
        logits.iter_mut().for_each(|logit| *logit *= scale);
        return;
    };
    logits.iter_mut().for_each(|logit| *logit *= scale / cap);
    apply(Function::Tanh, logits, isa);
    logits.iter_mut().for_each(|logit| *logit *= cap);
}

/// Moves some rows to the front.
fn keep(buffer: &mut [f32], width: usize, rows: &[usize]) {
    for (to, from) in rows.iter().enumerate() {
        buffer.copy_within(from * width..(from + 1) * width, to * width);
    }
}
