//! One step: the rows of all segments through some layers.

use std::ops::Range;

use hub_kernels::{
    Activations, BLOCK, Cpu, Forms, KvBlock, KvKind, Product, Sequence, apply, gate, multiply, rotate_halves,
    rotate_pairs,
};

use super::{
    CacheBlock, Layer, Linear, Model, ModelHead, Norm,
    layer::{Norms, maybe},
};
use crate::{
    Error, Pass,
    executor::{
        Input, Output, Segment, Want,
        places::Place,
        rope::{Rope, Turns},
        store::Store,
    },
    spec::{ModelSpec, Pairing},
};

/// What a step computes in. Memory is kept from one step to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The residual, `[rows, hidden]`.
    x: Vec<f32>,
    /// What a sublayer returned, `[rows, hidden]`.
    y: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    mixed: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    inputs: Activations,
    turns: Vec<Turns>,
    attention: hub_kernels::Scratch,
    /// What the rows of a model without state see of each other: blocks by key heads and width.
    own: Vec<((usize, usize), Vec<KvBlock>)>,
}

/// A step with what it reads.
pub(super) struct Step<'a> {
    pub(super) spec: &'a ModelSpec,
    pub(super) model: &'a Model,
    pub(super) store: &'a Store<CacheBlock>,
    pub(super) cpu: &'a Cpu,
    pub(super) segments: &'a [Segment<'a>],
    pub(super) places: &'a [Place],
}

/// A sublayer's output that is not yet part of the residual.
#[derive(Clone, Copy)]
struct Pending<'a> {
    norms: &'a Norms,
    scale: f32,
}

impl Step<'_> {
    pub(super) fn run(
        &self,
        scratch: &mut Scratch,
        layers: Range<usize>,
        want: Want,
        pass: &mut Pass<'_>,
    ) -> Result<Output, Error> {
        let rows = self.places.iter().map(|place| place.count).sum::<usize>();
        self.enter(&mut scratch.x, &layers, rows)?;
        self.turn(&mut scratch.turns);
        let wanted = self.wanted();
        let is_last = layers.end == self.spec.layers.len();
        let mut own = std::mem::take(&mut scratch.own);
        self.make_own_blocks(&mut own);
        let blocks = self.blocks(&own)?;
        let sequences: Vec<_> = blocks.iter().map(|blocks| self.sequences(blocks)).collect();
        let mut pending = None;
        let mut rows = rows;
        for index in layers.clone() {
            let layer = &self.model.layers[index];
            let (group, within) = self.group(index, &own);
            self.mix(scratch, layer, (&sequences[group], within), rows, pending);
            if index + 1 == layers.end && wanted.len() < rows {
                // What follows works on each row alone, and the others are not asked for.
                keep(&mut scratch.x, self.spec.hidden_size, &wanted);
                keep(&mut scratch.mixed, layer.attention.heads * layer.attention.head_dim, &wanted);
                rows = wanted.len();
                if rows == 0 {
                    break;
                }
            }
            self.project(scratch, layer, rows);
            self.think(scratch, layer, rows);
            pending = Some(Pending { norms: &layer.mlp_norms, scale: layer.residual_scale });
            pass.give_way();
        }
        scratch.own = own;
        if layers.is_empty() {
            keep(&mut scratch.x, self.spec.hidden_size, &wanted);
            rows = wanted.len();
        }
        if rows == 0 {
            return Ok(Output::default());
        }
        Ok(self.finish(scratch, rows, pending, is_last, want))
    }

    /// Writes the rows before the first layer of the call.
    fn enter(&self, x: &mut Vec<f32>, layers: &Range<usize>, rows: usize) -> Result<(), Error> {
        let width = self.spec.hidden_size;
        let fail = |reason: String| Err(Error::Rows { reason });
        grow(x, rows * width);
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
    fn turn(&self, turns: &mut Vec<Turns>) {
        turns.resize_with(self.model.ropes.len(), Turns::default);
        for (rope, turns) in self.model.ropes.iter().zip(turns) {
            rope.turns(self.places.iter().map(|place| (place.position, place.count, place.span)), turns);
        }
    }

    /// Returns which rows are asked for, in order.
    fn wanted(&self) -> Vec<usize> {
        let rows = self
            .segments
            .iter()
            .zip(self.places)
            .flat_map(|(segment, place)| segment.outputs.range(place.count).map(|row| place.start + row));
        rows.collect()
    }

    /// Returns the group of a layer, and which of its layers it is: groups of the store, or shapes of `own`.
    fn group(&self, layer: usize, own: &[((usize, usize), Vec<KvBlock>)]) -> (usize, usize) {
        self.store.place(layer).unwrap_or_else(|| {
            let mixer = &self.spec.layers[layer].mixer;
            let shape = (mixer.kv_heads, mixer.head_dim);
            (own.iter().position(|(known, _)| *known == shape).unwrap_or(0), 0)
        })
    }

    /// Makes room for what rows of a model without state see of each other, in each shape of its layers.
    fn make_own_blocks(&self, own: &mut Vec<((usize, usize), Vec<KvBlock>)>) {
        if self.spec.keeps_state() {
            return;
        }
        let needed = self.places.iter().map(|place| place.count.div_ceil(BLOCK)).sum::<usize>();
        for layer in &self.spec.layers {
            let shape = (layer.mixer.kv_heads, layer.mixer.head_dim);
            if !own.iter().any(|(known, _)| *known == shape) {
                own.push((shape, Vec::new()));
            }
        }
        for ((kv_heads, head_dim), blocks) in own {
            while blocks.len() < needed {
                blocks.push(KvBlock::new(KvKind::F32, 1, *kv_heads, *head_dim));
            }
        }
    }

    /// Finds the blocks of each group, those of each segment after another.
    fn blocks<'b>(&'b self, own: &'b [((usize, usize), Vec<KvBlock>)]) -> Result<Vec<Vec<Run<'b>>>, Error> {
        if !self.spec.keeps_state() {
            let runs = |blocks: &'b [KvBlock]| {
                let mut rest = blocks.iter();
                let run = |place: &Place| Run {
                    dropped: 0,
                    blocks: rest.by_ref().take(place.count.div_ceil(BLOCK)).collect(),
                };
                self.places.iter().map(run).collect()
            };
            return Ok(own.iter().map(|(_, blocks)| runs(blocks)).collect());
        }
        let lost = || Error::Rows { reason: "a state names blocks that are not there".to_owned() };
        let groups = self.segments.iter().filter_map(|segment| Some(segment.state.as_ref()?.groups.len()));
        let run = |group: usize, segment: &'b Segment<'_>| {
            let table = segment.state.as_ref().and_then(|state| state.groups.get(group)).ok_or_else(lost)?;
            let blocks =
                table.blocks.iter().map(|block| self.store.block(group, *block).map(|block| &block.0));
            Ok(Run { dropped: table.dropped, blocks: blocks.collect::<Option<_>>().ok_or_else(lost)? })
        };
        let groups = 0..groups.max().unwrap_or(0);
        groups.map(|group| self.segments.iter().map(|segment| run(group, segment)).collect()).collect()
    }

    fn sequences<'b>(&self, runs: &'b [Run<'b>]) -> Vec<Sequence<'b>> {
        let sequence = |(run, place): (&'b Run<'b>, &Place)| Sequence {
            start: place.start,
            count: place.count,
            position: place.position,
            blocks: &run.blocks,
            dropped: run.dropped,
        };
        runs.iter().zip(self.places).map(sequence).collect()
    }

    /// Takes in what the last sublayer returned, and makes the inputs of the next one: residual, norm, rounding.
    fn take_in(
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
            if let Some(Pending { norms, scale }) = pending {
                norms.add(x, &y[row * width..(row + 1) * width], scale, out, isa);
            }
            out.copy_from_slice(x);
            maybe(before, out, isa);
        });
    }

    /// Lets rows look at each other: up to the mean of the values.
    fn mix(
        &self,
        scratch: &mut Scratch,
        layer: &Layer,
        (sequences, within): (&[Sequence<'_>], usize),
        rows: usize,
        pending: Option<Pending<'_>>,
    ) {
        let Layer { query, key, value, attention, .. } = layer;
        let forms = Linear::forms([query, key, value]);
        self.take_in(scratch, rows, pending, layer.mixer_norms.before.as_ref(), forms);
        let Scratch { queries, keys, values, mixed, inputs, turns, attention: memory, .. } = scratch;
        let queries = grow(queries, rows * query.rows());
        let keys = grow(keys, rows * key.rows());
        let values = grow(values, rows * value.rows());
        let mixed = grow(mixed, rows * query.rows());
        multiply(
            [product(query, inputs, queries), product(key, inputs, keys), product(value, inputs, values)],
            self.cpu,
        );
        let rope = layer.rope.map(|rope| (&self.model.ropes[rope], &turns[rope]));
        self.prepare(queries, query.rows(), attention.head_dim, layer.query_norm.as_ref(), rope);
        self.prepare(keys, key.rows(), attention.head_dim, layer.key_norm.as_ref(), rope);
        attention.write(keys, values, sequences, within, self.cpu);
        attention.attend(queries, sequences, within, mixed, memory, self.cpu);
    }

    /// Normalises and turns the heads of rows of queries or keys.
    fn prepare(
        &self,
        rows: &mut [f32],
        width: usize,
        head_dim: usize,
        norm: Option<&Norm>,
        rope: Option<(&Rope, &Turns)>,
    ) {
        let isa = self.cpu.isa();
        self.cpu.each_chunk(rows, width, |row, heads| {
            for head in heads.chunks_exact_mut(head_dim) {
                maybe(norm, head, isa);
                let Some((rope, turns)) = rope else { continue };
                let pairs = rope.spec().dims / 2;
                let (cos, sin) = (&turns.cos[row * pairs..][..pairs], &turns.sin[row * pairs..][..pairs]);
                match rope.spec().pairing {
                    Pairing::Halves => rotate_halves(head, cos, sin, isa),
                    Pairing::Interleaved => rotate_pairs(head, cos, sin),
                }
            }
        });
    }

    /// Multiplies the means of the values with the output matrix.
    fn project(&self, scratch: &mut Scratch, layer: &Layer, rows: usize) {
        let Scratch { y, mixed, inputs, .. } = scratch;
        let width = layer.output.matrix.cols();
        inputs.fill(Linear::forms([&layer.output]), rows, width, self.cpu, |row, out| {
            out.copy_from_slice(&mixed[row * width..(row + 1) * width]);
        });
        let y = grow(y, rows * self.spec.hidden_size);
        multiply([product(&layer.output, inputs, y)], self.cpu);
    }

    /// Runs the MLP.
    fn think(&self, scratch: &mut Scratch, layer: &Layer, rows: usize) {
        let mlp = &layer.mlp;
        let pending = Pending { norms: &layer.mixer_norms, scale: layer.residual_scale };
        let forms = Linear::forms([&mlp.gate].into_iter().chain(&mlp.up));
        self.take_in(scratch, rows, Some(pending), layer.mlp_norms.before.as_ref(), forms);
        let Scratch { y, gate: gates, up: ups, inputs, .. } = scratch;
        let width = mlp.gate.rows();
        let gates = grow(gates, rows * width);
        let ups = grow(ups, rows * width);
        match &mlp.up {
            Some(up) => multiply([product(&mlp.gate, inputs, gates), product(up, inputs, ups)], self.cpu),
            None => multiply([product(&mlp.gate, inputs, gates)], self.cpu),
        }
        let (gates, ups, isa) = (&*gates, &*ups, self.cpu.isa());
        inputs.fill(Linear::forms([&mlp.down]), rows, width, self.cpu, |row, out| {
            let part = row * width..(row + 1) * width;
            out.copy_from_slice(&gates[part.clone()]);
            match mlp.up {
                Some(_) => gate(mlp.function, out, &ups[part], isa),
                None => apply(mlp.function, out, isa),
            }
        });
        let y = grow(y, rows * self.spec.hidden_size);
        multiply([product(&mlp.down, inputs, y)], self.cpu);
    }

    /// Computes what is wanted of the rows that are left.
    fn finish(
        &self,
        scratch: &mut Scratch,
        rows: usize,
        pending: Option<Pending<'_>>,
        is_last: bool,
        want: Want,
    ) -> Output {
        let width = self.spec.hidden_size;
        let norm = self.model.final_norm.as_ref().filter(|_| is_last);
        let head = match (&self.model.head, want) {
            (_, Want::Hidden) | (ModelHead::None, Want::Head) => None,
            (ModelHead::Logits { linear, .. }, Want::Head) => Some(linear),
            (ModelHead::Classifier { dense, .. }, Want::Head) => Some(dense),
        };
        let forms = Linear::forms(head);
        let Some(head) = head else {
            self.take_in(scratch, rows, pending, None, forms);
            let mut values = scratch.x[..rows * width].to_vec();
            values.chunks_exact_mut(width).for_each(|row| maybe(norm, row, self.cpu.isa()));
            return Output::new(values, width);
        };
        self.take_in(scratch, rows, pending, norm, forms);
        let mut values = vec![0.0; rows * head.rows()];
        multiply([product(head, &scratch.inputs, &mut values)], self.cpu);
        match &self.model.head {
            ModelHead::Logits { scale, soft_cap, .. } => {
                if *scale != 1.0 {
                    values.iter_mut().for_each(|logit| *logit *= scale);
                }
                if let Some(cap) = soft_cap {
                    values.iter_mut().for_each(|logit| *logit = cap * (*logit / cap).tanh());
                }
                Output::new(values, head.rows())
            }
            ModelHead::Classifier { out, .. } => {
                values.iter_mut().for_each(|number| *number = number.tanh());
                let inputs = Activations::of(&values, out.matrix.cols(), Linear::forms([out]), self.cpu);
                let mut scores = vec![0.0; rows * out.rows()];
                multiply([product(out, &inputs, &mut scores)], self.cpu);
                Output::new(scores, out.rows())
            }
            ModelHead::None => Output::default(),
        }
    }
}

/// The blocks of a segment in one group.
struct Run<'a> {
    dropped: usize,
    blocks: Vec<&'a KvBlock>,
}

fn product<'a>(linear: &'a Linear, x: &'a Activations, out: &'a mut [f32]) -> Product<'a> {
    Product { weights: &linear.matrix, x, bias: linear.bias.as_deref(), out }
}

/// Makes room for `len` numbers, and returns them; what they were is written over.
fn grow(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Moves some rows to the front.
fn keep(buffer: &mut [f32], width: usize, rows: &[usize]) {
    for (to, from) in rows.iter().enumerate() {
        buffer.copy_within(from * width..(from + 1) * width, to * width);
    }
}
