//! Several residual streams, and the path beside the mixer.

use hub_kernels::{Activations, Cpu, Forms, Function, add_scaled, apply, multiply};

use super::{
    layer::{Linear, Norm, maybe},
    means::mean_square,
};

/// Residual streams beside the first; [`spec::StreamsSpec`](crate::spec::StreamsSpec) says what each part is.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) projections: Vec<Linear>,
    pub(super) unembed_projections: Vec<Linear>,
    pub(super) least_square: f32,
}

/// How a layer goes about with them; [`spec::AltUpSpec`](crate::spec::AltUpSpec) says what each part is.
#[derive(Debug)]
pub(super) struct AltUp {
    pub(super) router: Linear,
    pub(super) router_norm: Norm,
    pub(super) router_scale: f32,
    pub(super) prediction: Vec<f32>,
    pub(super) correction: Vec<f32>,
    pub(super) output_scale: Option<Vec<f32>>,
}

/// A path beside the mixer; [`spec::LaurelSpec`](crate::spec::LaurelSpec) says what each part is.
#[derive(Debug)]
pub(super) struct Laurel {
    pub(super) left: Linear,
    pub(super) right: Linear,
    pub(super) norm: Norm,
    pub(super) scale: f32,
}

/// What streams are computed in; kept from one step to the next.
#[derive(Debug, Default)]
pub(super) struct StreamsRoom {
    /// `[rows, streams, hidden]`
    all: Vec<f32>,
    /// As `all`, before the layer; at the end it holds what the streams are projected to.
    pub(super) predicted: Vec<f32>,
    /// `[rows, streams]`
    modalities: Vec<f32>,
}

/// What the path beside the mixer is computed in; kept from one step to the next.
#[derive(Debug, Default)]
pub(super) struct LaurelRoom {
    inputs: Activations,
    /// `[rows, rank]`
    left: Vec<f32>,
    /// `[rows, hidden]`
    right: Vec<f32>,
}

impl Streams {
    /// Returns how many streams there are.
    fn count(&self) -> usize {
        self.projections.len() + 1
    }

    /// Makes all streams of rows `x`, `[rows, hidden]`.
    pub(super) fn split(
        &self,
        x: &[f32],
        hidden: usize,
        inputs: &mut Activations,
        room: &mut StreamsRoom,
        cpu: &Cpu,
    ) {
        let rows = x.len() / hidden;
        let StreamsRoom { all, predicted, .. } = room;
        all.resize(rows * self.count() * hidden, 0.0);
        predicted.resize(rows * self.count() * hidden, 0.0);
        inputs.fill(Linear::forms(&self.projections), rows, hidden, cpu, |row, out| {
            out.copy_from_slice(&x[row * hidden..][..hidden]);
        });
        for (projection, out) in
            self.projections.iter().zip(predicted.chunks_exact_mut((rows * hidden).max(1)))
        {
            multiply(&mut [projection.product(inputs, out)], cpu);
        }
        let projected = &*predicted;
        cpu.each_chunk(all, self.count() * hidden, |row, streams| {
            let (first, others) = streams.split_at_mut(hidden);
            first.copy_from_slice(&x[row * hidden..][..hidden]);
            let wanted = mean_square(first);
            for (index, stream) in others.chunks_exact_mut(hidden).enumerate() {
                stream.copy_from_slice(&projected[(index * rows + row) * hidden..][..hidden]);
                let factor = self.factor(wanted, stream);
                stream.iter_mut().for_each(|number| *number *= factor);
            }
        });
    }

    /// Makes the last hidden states of all streams, `[rows, hidden]`.
    pub(super) fn merge(
        &self,
        x: &mut [f32],
        hidden: usize,
        inputs: &mut Activations,
        room: &mut StreamsRoom,
        cpu: &Cpu,
    ) {
        let (rows, count) = (x.len() / hidden, self.count());
        let StreamsRoom { all, predicted, .. } = room;
        let all = &*all;
        let outs = predicted.chunks_exact_mut((rows * hidden).max(1));
        for (index, (projection, out)) in self.unembed_projections.iter().zip(outs).enumerate() {
            inputs.fill(Linear::forms([projection]), rows, hidden, cpu, |row, out| {
                out.copy_from_slice(&all[(row * count + index + 1) * hidden..][..hidden]);
            });
            multiply(&mut [projection.product(inputs, out)], cpu);
        }
        let projected = &*predicted;
        cpu.each_chunk(x, hidden, |row, x| {
            x.copy_from_slice(&all[row * count * hidden..][..hidden]);
            let wanted = mean_square(x);
            for index in 0..count - 1 {
                let stream = &projected[(index * rows + row) * hidden..][..hidden];
                add_scaled(x, stream, self.factor(wanted, stream));
            }
            x.iter_mut().for_each(|number| *number /= count as f32);
        });
    }

    /// Returns what gives a row the mean square that is wanted.
    fn factor(&self, wanted: f32, row: &[f32]) -> f32 {
        wanted.sqrt() / mean_square(row).max(self.least_square).sqrt()
    }
}

impl AltUp {
    /// Returns the forms of inputs that the router asks for.
    pub(super) fn inputs(&self) -> Forms {
        Linear::forms([&self.router])
    }

    /// Predicts all streams, and writes the first to `x`, `[rows, hidden]`.
    pub(super) fn predict(
        &self,
        x: &mut [f32],
        hidden: usize,
        inputs: &mut Activations,
        room: &mut StreamsRoom,
        cpu: &Cpu,
    ) {
        let (rows, count) = (x.len() / hidden, self.router.rows());
        let width = count * hidden;
        let (all, isa) = (&room.all, cpu.isa());
        inputs.fill(self.inputs(), rows, hidden, cpu, |row, out| {
            out.copy_from_slice(&all[row * width..][..hidden]);
            self.router_norm.apply(out, isa);
        });
        self.route(inputs, &mut room.modalities, cpu);
        let (all, modalities) = (&room.all, &room.modalities);
        cpu.each_chunk(&mut room.predicted[..rows * width], width, |row, predicted| {
            let streams = &all[row * width..][..width];
            let modalities = &modalities[row * count..][..count];
            predicted.copy_from_slice(streams);
            let shares = self.prediction.chunks_exact(count * count);
            for (stream, shares) in predicted.chunks_exact_mut(hidden).zip(shares) {
                for (other, share) in streams.chunks_exact(hidden).zip(shares.chunks_exact(count)) {
                    add_scaled(stream, other, dot(share, modalities));
                }
            }
        });
        let predicted = &room.predicted;
        cpu.each_chunk(x, hidden, |row, x| x.copy_from_slice(&predicted[row * width..][..hidden]));
    }

    /// Corrects all streams by what the layer made of the first, `x`; `inputs` are the same rows as the router reads them.
    pub(super) fn correct(
        &self,
        x: &[f32],
        hidden: usize,
        inputs: &Activations,
        room: &mut StreamsRoom,
        cpu: &Cpu,
    ) {
        let (rows, count) = (x.len() / hidden, self.router.rows());
        let width = count * hidden;
        self.route(inputs, &mut room.modalities, cpu);
        let (predicted, modalities) = (&room.predicted, &room.modalities);
        cpu.each_chunk(&mut room.all[..rows * width], width, |row, streams| {
            let predicted = &predicted[row * width..][..width];
            let modalities = &modalities[row * count..][..count];
            let share = |index: usize| dot(&self.correction[index * count..][..count], modalities) + 1.0;
            let (difference, others) = streams.split_at_mut(hidden);
            difference.copy_from_slice(&x[row * hidden..][..hidden]);
            add_scaled(difference, &predicted[..hidden], -1.0);
            others.copy_from_slice(&predicted[hidden..]);
            for (index, stream) in others.chunks_exact_mut(hidden).enumerate() {
                add_scaled(stream, difference, share(index + 1));
            }
            let own = share(0);
            for (number, predicted) in difference.iter_mut().zip(predicted) {
                *number = predicted + *number * own;
            }
        });
    }

    /// Computes what tells how streams mix, of rows that the router reads.
    fn route(&self, inputs: &Activations, modalities: &mut Vec<f32>, cpu: &Cpu) {
        modalities.resize(inputs.tokens() * self.router.rows(), 0.0);
        multiply(&mut [self.router.product(inputs, modalities)], cpu);
        modalities.iter_mut().for_each(|number| *number *= self.router_scale);
        apply(Function::Tanh, modalities, cpu.isa());
    }

    /// Fills `inputs` with rows of the first stream, as the second embedding is gated by them.
    pub(super) fn gate_inputs(
        &self,
        (rows, hidden): (usize, usize),
        inputs: &mut Activations,
        forms: Forms,
        room: &StreamsRoom,
        cpu: &Cpu,
    ) {
        let width = self.router.rows() * hidden;
        inputs.fill(forms, rows, hidden, cpu, |row, out| {
            out.copy_from_slice(&room.all[row * width..][..hidden]);
            if let Some(scale) = &self.output_scale {
                out.iter_mut().zip(scale).for_each(|(number, scale)| *number *= scale);
            }
        });
    }

    /// Adds rows `y`, `[rows, hidden]`, to all streams but the first.
    pub(super) fn add_to_others(&self, y: &[f32], hidden: usize, room: &mut StreamsRoom, cpu: &Cpu) {
        let (rows, width) = (y.len() / hidden, self.router.rows() * hidden);
        cpu.each_chunk(&mut room.all[..rows * width], width, |row, streams| {
            for stream in streams[hidden..].chunks_exact_mut(hidden) {
                add_scaled(stream, &y[row * hidden..][..hidden], 1.0);
            }
        });
    }
}

fn dot(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

impl Laurel {
    /// Returns the matrices that rows the mixer reads are multiplied with.
    pub(super) fn inputs(&self) -> Forms {
        Linear::forms([&self.left])
    }

    /// Adds the path, and what it begins with, to the residual `x` before the mixer's output; `inputs` are the same rows as
    /// `before` normalised them for the mixer.
    pub(super) fn add(
        &self,
        x: &mut [f32],
        before: Option<&Norm>,
        inputs: &Activations,
        room: &mut LaurelRoom,
        cpu: &Cpu,
    ) {
        let (rows, rank, hidden) = (inputs.tokens(), self.left.rows(), self.right.rows());
        let LaurelRoom { inputs: inner, left, right } = room;
        left.resize(rows * rank, 0.0);
        multiply(&mut [self.left.product(inputs, left)], cpu);
        let left = &*left;
        inner.fill(Linear::forms([&self.right]), rows, rank, cpu, |row, out| {
            out.copy_from_slice(&left[row * rank..][..rank]);
        });
        right.resize(rows * hidden, 0.0);
        multiply(&mut [self.right.product(inner, right)], cpu);
        let (right, isa) = (&*right, cpu.isa());
        // In no form: all that is needed of the inputs is their memory.
        inner.fill_beside(Forms::default(), rows, hidden, cpu, x, |row, x, beside| {
            beside.copy_from_slice(x);
            maybe(before, beside, isa);
            add_scaled(x, beside, 1.0);
            beside.copy_from_slice(&right[row * hidden..][..hidden]);
            self.norm.apply(beside, isa);
            add_scaled(x, beside, 1.0);
        });
    }
}
