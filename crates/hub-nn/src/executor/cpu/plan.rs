//! What a step needs to know before its first layer, and the memory it computes in.

use hub_kernels::{Activations, BLOCK, Cpu, KvBlock, KvKind, KvShape, Sequence, Stream};

use super::{
    CacheBlock, Layer, Step,
    altup::{LaurelRoom, StreamsRoom},
    experts::{ApartRoom, ExpertsRoom},
    latent::LatentRoom,
    layer::{Mixer, Mlp},
    per_layer::Parts,
    recurrent::RecurrentRoom,
};
use crate::{
    Error,
    executor::{Segment, places::Place, rope::Rotations},
    state::Kept,
};

/// What a step computes in. Memory is kept from one step to the next, and grows when a step has more rows than any
/// before: in the long run a step allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The residual, `[rows, hidden]`.
    pub(super) x: Vec<f32>,
    /// What a sublayer returned, `[rows, hidden]`.
    pub(super) y: Vec<f32>,
    pub(super) queries: Vec<f32>,
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
    pub(super) mixed: Vec<f32>,
    pub(super) gate: Vec<f32>,
    pub(super) up: Vec<f32>,
    pub(super) inputs: Activations,
    /// What an MLP makes of its inputs.
    pub(super) inner: Activations,
    pub(super) rotations: Vec<Rotations>,
    /// Of each row.
    pub(super) positions: Vec<usize>,
    pub(super) attention: hub_kernels::Scratch,
    pub(super) experts: ExpertsRoom,
    pub(super) recurrent: RecurrentRoom,
    pub(super) latent: LatentRoom,
    pub(super) apart: ApartRoom,
    pub(super) parts: Parts,
    pub(super) streams: StreamsRoom,
    pub(super) laurel: LaurelRoom,
    pub(super) lists: Lists,
}

/// Lists of what a step works on, and what models without state keep during one.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) wanted: Vec<usize>,
    /// Empty between steps, when nothing is borrowed.
    pub(super) blocks: Vec<&'static KvBlock>,
    /// As `blocks`.
    pub(super) sequences: Vec<Sequence<'static>>,
    /// As `blocks`.
    pub(super) streams: Vec<Stream<'static>>,
    pub(super) own: Vec<OwnBlocks>,
}

/// What the rows of a model without state see of each other, in layers of one number of key heads and one width.
pub(super) type OwnBlocks = (KvShape, Vec<KvBlock>);

/// How many numbers a row takes at most in each buffer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Widths {
    hidden: usize,
    queries: usize,
    keys: usize,
    mixed: usize,
    inner: usize,
}

impl Widths {
    pub(super) fn of(layers: &[Layer], hidden: usize) -> Self {
        let most = |width: fn(&Layer) -> usize| layers.iter().map(width).max().unwrap_or(0);
        Self {
            hidden,
            queries: most(|layer| match &layer.mixer {
                Mixer::Attention(attend) => attend.query.rows(),
                _ => 0,
            }),
            keys: most(|layer| match &layer.mixer {
                Mixer::Attention(attend) => attend.kv.as_ref().map_or(0, |kv| kv.key.rows()),
                _ => 0,
            }),
            mixed: most(|layer| layer.mixer.output().matrix.cols()),
            inner: most(|layer| match &layer.mlp {
                Mlp::Dense(dense) => dense.gate.rows(),
                Mlp::Experts(experts) => experts.shared.as_ref().map_or(0, |(dense, _)| dense.gate.rows()),
            }),
        }
    }
}

impl Scratch {
    /// Makes room for `rows`.
    pub(super) fn plan(&mut self, rows: usize, widths: Widths) {
        let Self { x, y, queries, keys, values, mixed, gate, up, .. } = self;
        for (buffer, width) in [
            (x, widths.hidden),
            (y, widths.hidden),
            (queries, widths.queries),
            (keys, widths.keys),
            (values, widths.keys),
            (mixed, widths.mixed),
            (gate, widths.inner),
            (up, widths.inner),
        ] {
            if buffer.len() < rows * width {
                buffer.resize(rows * width, 0.0);
            }
        }
    }

    /// Keeps some rows of the inputs.
    pub(super) fn keep_inputs(&mut self, rows: &[usize], cpu: &Cpu) {
        let row = |place: usize| rows.get(place).copied();
        self.inner.gather(&self.inputs, rows.len(), row, rows.len() == 1, cpu);
        std::mem::swap(&mut self.inner, &mut self.inputs);
    }
}

impl Step<'_> {
    /// Fills `wanted` with the rows that are asked for, in order.
    pub(super) fn find_wanted(&self, wanted: &mut Vec<usize>) {
        wanted.clear();
        for (segment, place) in self.segments.iter().zip(self.places) {
            wanted.extend(segment.outputs.range(place.count).map(|row| place.start + row));
        }
    }

    /// Makes room for what rows of a model without state see of each other, in each shape of its layers.
    pub(super) fn make_own_blocks(&self, own: &mut Vec<OwnBlocks>) {
        if self.spec.keeps_state() {
            return;
        }
        let needed = self.places.iter().map(|place| place.count.div_ceil(BLOCK)).sum::<usize>();
        for attention in self.spec.layers.iter().filter_map(|layer| layer.mixer.attention()) {
            let (heads, dim) = (attention.kv_heads, attention.head_dim);
            let shape = KvShape { heads, key_dim: dim, value_dim: dim };
            if !own.iter().any(|(known, _)| *known == shape) {
                own.push((shape, Vec::new()));
            }
        }
        for (shape, blocks) in own {
            while blocks.len() < needed {
                blocks.push(KvBlock::new(KvKind::F32, 1, *shape));
            }
        }
    }

    /// Fills `blocks` with those of each group, in it those of each segment after another.
    pub(super) fn find_blocks<'b>(
        &'b self,
        own: &'b [OwnBlocks],
        blocks: &mut Vec<&'b KvBlock>,
    ) -> Result<(), Error> {
        if !self.spec.keeps_state() {
            let needed = self.places.iter().map(|place| place.count.div_ceil(BLOCK)).sum();
            blocks.extend(own.iter().flat_map(|(_, blocks)| blocks.iter().take(needed)));
            return Ok(());
        }
        for group in 0..self.store.groups() {
            for segment in self.segments {
                for block in self.blocks_of(segment, group) {
                    if let CacheBlock::KeysValues(block) = block? {
                        blocks.push(block);
                    }
                }
            }
        }
        Ok(())
    }

    /// Iterates over the blocks of a segment in a group.
    fn blocks_of(
        &self,
        segment: &Segment<'_>,
        group: usize,
    ) -> impl Iterator<Item = Result<&CacheBlock, Error>> {
        let table = segment.state.as_ref().and_then(|state| state.groups.get(group));
        table.into_iter().flat_map(|table| table.blocks()).map(move |block| {
            let lost = || Error::Rows { reason: "a state names blocks that are not there".to_owned() };
            self.store.block(group, block).ok_or_else(lost)
        })
    }

    /// Fills `streams` with those of each group that keeps what has no positions.
    pub(super) fn find_streams<'b>(&'b self, streams: &mut Vec<Stream<'b>>) -> Result<(), Error> {
        for group in 0..self.store.groups() {
            for (segment, place) in self.segments.iter().zip(self.places) {
                for block in self.blocks_of(segment, group) {
                    if let CacheBlock::Recurrent(block) = block? {
                        streams.push(Stream { start: place.start, count: place.count, block });
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the streams of a layer, of those of all groups, and which layer of their blocks it is.
    pub(super) fn streams_of<'b>(&self, layer: usize, all: &'b [Stream<'b>]) -> (&'b [Stream<'b>], usize) {
        let Some((group, within)) = self.store.place(layer) else { return (&[], 0) };
        let before = (0..group).filter(|group| self.store.is_recurrent(*group)).count();
        (&all[before * self.segments.len()..][..self.segments.len()], within)
    }

    /// Fills `sequences` with those of each group, whose blocks lie after another in `blocks`.
    pub(super) fn find_sequences<'b>(
        &self,
        own: &[OwnBlocks],
        mut blocks: &'b [&'b KvBlock],
        sequences: &mut Vec<Sequence<'b>>,
    ) {
        let groups = if self.spec.keeps_state() { self.store.groups() } else { own.len() };
        for group in (0..groups).filter(|group| !self.store.is_recurrent(*group)) {
            for (segment, place) in self.segments.iter().zip(self.places) {
                let (dropped, count) = self.held(group, segment, place);
                let (held, rest) = blocks.split_at(count.min(blocks.len()));
                blocks = rest;
                let Place { start, count, position, .. } = *place;
                sequences.push(Sequence { start, count, position, blocks: held, dropped });
            }
        }
    }

    /// Returns how many blocks of a segment's beginning are gone in a group, and how many are there.
    fn held(&self, group: usize, segment: &Segment<'_>, place: &Place) -> (usize, usize) {
        if !self.spec.keeps_state() {
            return (0, place.count.div_ceil(BLOCK));
        }
        let table = segment.state.as_ref().and_then(|state| state.groups.get(group));
        table.map_or((0, 0), |table| table.held())
    }

    /// Returns the sequences as a layer caches them, of those of all groups, and which layer of their blocks it is.
    pub(super) fn sequences_of<'b>(
        &self,
        layer: usize,
        all: &'b [Sequence<'b>],
        own: &[OwnBlocks],
    ) -> (&'b [Sequence<'b>], usize) {
        let (group, within) = self.store.place(layer).unwrap_or_else(|| {
            let kept = Kept::by(&self.spec.layers[layer].mixer);
            let is_own = |own: &OwnBlocks| matches!(kept, Kept::KeysValues { shape, .. } if shape == own.0);
            (own.iter().position(is_own).unwrap_or(0), 0)
        });
        let group = (0..group).filter(|group| !self.store.is_recurrent(*group)).count();
        (&all[group * self.segments.len()..][..self.segments.len()], within)
    }
}

/// Returns an empty list in the memory of another whose elements differ in what they borrow alone.
pub(super) fn emptied<A, B>(mut list: Vec<A>) -> Vec<B> {
    list.clear();
    // Collected in place: the standard library keeps the memory where both kinds are laid out alike.
    list.into_iter().filter_map(|_| None).collect()
}
