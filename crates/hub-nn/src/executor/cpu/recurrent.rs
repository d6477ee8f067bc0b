//! Mixers that keep a state of fixed size.

use hub_kernels::{Activations, Conv, Cpu, Forms, Function, Scan, ScanRows, Stream, multiply, rms_norm};

use super::layer::{Linear, Norm};
use crate::spec::Gating;

/// Added to the square of a query's or a key's length before the root; as in `transformers`.
const UNIT_EPS: f32 = 1e-6;

/// Heads with a matrix each; [`spec::RecurrentSpec`](crate::spec::RecurrentSpec) says what each part is.
#[derive(Debug)]
pub(super) struct Recurrent {
    pub(super) scan: Scan,
    pub(super) query: Convolved,
    pub(super) key: Convolved,
    pub(super) value: Convolved,
    pub(super) gate: Linear,
    pub(super) step: Linear,
    pub(super) step_bias: Vec<f32>,
    pub(super) step_limits: Option<(f32, f32)>,
    /// Negative.
    pub(super) rate: Vec<f32>,
    /// How much of a value is written, by the delta rule.
    pub(super) beta: Option<Linear>,
    pub(super) norm: Norm,
    pub(super) gating: Gating,
    pub(super) output: Linear,
}

/// A linear part whose channels pass a convolution.
#[derive(Debug)]
pub(super) struct Convolved {
    pub(super) linear: Linear,
    pub(super) conv: Conv,
}

/// A convolution between two gates; [`spec::ShortConvSpec`](crate::spec::ShortConvSpec) says what each part is.
#[derive(Debug)]
pub(super) struct ShortConv {
    pub(super) before: Linear,
    pub(super) after: Linear,
    pub(super) value: Linear,
    pub(super) conv: Conv,
    pub(super) output: Linear,
}

/// What these mixers compute in; kept from one layer to the next.
#[derive(Debug, Default)]
pub(super) struct RecurrentRoom {
    /// Before the convolutions: queries, keys and values.
    linear: [Vec<f32>; 3],
    /// After them.
    convolved: [Vec<f32>; 3],
    gates: Vec<f32>,
    /// `[rows, heads]`: steps, then decays.
    decays: Vec<f32>,
    /// `[rows, heads]`
    shares: Vec<f32>,
    /// `[heads, rows, value_dim]`
    read: Vec<f32>,
    /// What a query and a key are multiplied with, once their mean square is one.
    units: [Vec<f32>; 2],
}

impl Recurrent {
    fn parts(&self) -> [&Convolved; 3] {
        [&self.query, &self.key, &self.value]
    }

    /// Returns the matrices that rows of the residual are multiplied with.
    pub(super) fn inputs(&self) -> Forms {
        let parts = self.parts().map(|part| &part.linear);
        Linear::forms(parts.into_iter().chain([&self.gate, &self.step]).chain(&self.beta))
    }

    /// Returns how wide what heads read is.
    pub(super) fn inner(&self) -> usize {
        self.scan.heads * self.scan.value_dim
    }

    /// Lets the rows `x` pass the matrices of `streams` into `mixed`, `[rows, inner]`, normalised and gated.
    pub(super) fn mix(
        &self,
        x: &Activations,
        (streams, layer): (&[Stream<'_>], usize),
        mixed: &mut [f32],
        room: &mut RecurrentRoom,
        cpu: &Cpu,
    ) {
        let rows = x.tokens();
        self.multiply(x, room, cpu);
        let mut offset = 0;
        for ((part, linear), convolved) in self.parts().into_iter().zip(&room.linear).zip(&mut room.convolved)
        {
            convolved.resize(linear.len(), 0.0);
            part.conv.run(linear, streams, (layer, offset), Some(Function::Silu), convolved, cpu);
            offset += part.conv.channels();
        }
        if self.scan.is_delta {
            self.normalize(room, cpu);
        }
        self.decay(room, cpu);
        let [queries, keys, values] = &room.convolved;
        let RecurrentRoom { decays, shares, read, .. } = room;
        read.resize(rows * self.inner(), 0.0);
        self.scan.run(ScanRows { queries, keys, values, decays, shares }, streams, layer, read, cpu);
        self.finish(room, mixed, rows, cpu);
    }

    /// Multiplies rows with all matrices at once.
    fn multiply(&self, x: &Activations, room: &mut RecurrentRoom, cpu: &Cpu) {
        let RecurrentRoom { linear: [queries, keys, values], gates, decays, shares, .. } = room;
        let beta = self.beta.as_ref();
        // By the other rule a share is what the step is.
        let linears = [
            (&self.query.linear, queries),
            (&self.key.linear, keys),
            (&self.value.linear, values),
            (&self.gate, gates),
            (&self.step, decays),
            (beta.unwrap_or(&self.step), shares),
        ];
        let mut products = linears.map(|(linear, out)| {
            out.resize(x.tokens() * linear.rows(), 0.0);
            linear.product(x, out)
        });
        let count = products.len() - usize::from(beta.is_none());
        multiply(&mut products[..count], cpu);
    }

    /// Gives each query and key the length one, and divides queries by the root of their width.
    fn normalize(&self, room: &mut RecurrentRoom, cpu: &Cpu) {
        let dim = self.scan.key_dim;
        let root = (dim as f32).sqrt();
        let RecurrentRoom { convolved: [queries, keys, _], units, .. } = room;
        for ((heads, unit), size) in
            [queries, keys].into_iter().zip(units).zip([1.0 / dim as f32, 1.0 / root])
        {
            unit.clear();
            unit.resize(dim, size);
            let unit = &*unit;
            cpu.each_chunk(heads, dim, |_, head| rms_norm(head, unit, UNIT_EPS / dim as f32, cpu.isa()));
        }
    }

    /// Turns steps into decays, and what tells how much is written into shares.
    fn decay(&self, room: &mut RecurrentRoom, _cpu: &Cpu) {
        let heads = self.scan.heads;
        for (decays, shares) in room.decays.chunks_exact_mut(heads).zip(room.shares.chunks_exact_mut(heads)) {
            for head in 0..heads {
                let mut step = softplus(decays[head] + self.step_bias[head]);
                if let Some((low, high)) = self.step_limits {
                    step = step.clamp(low, high);
                }
                decays[head] = (self.rate[head] * step).exp();
                shares[head] = if self.scan.is_delta { 1.0 / (1.0 + (-shares[head]).exp()) } else { step };
            }
        }
    }

    /// Normalises and gates what heads read, row by row.
    fn finish(&self, room: &RecurrentRoom, mixed: &mut [f32], rows: usize, cpu: &Cpu) {
        let (dim, inner, isa) = (self.scan.value_dim, self.inner(), cpu.isa());
        let (read, gates) = (&room.read, &room.gates);
        cpu.each_chunk(mixed, inner, |row, out| {
            for (head, out) in out.chunks_exact_mut(dim).enumerate() {
                out.copy_from_slice(&read[(head * rows + row) * dim..][..dim]);
            }
            let gates = &gates[row * inner..(row + 1) * inner];
            let weight = &self.norm.weight;
            match self.gating {
                Gating::NormFirst => {
                    for (out, gates) in out.chunks_exact_mut(dim).zip(gates.chunks_exact(dim)) {
                        self.norm.apply(out, isa);
                        multiply_by_silu(out, gates);
                    }
                }
                Gating::GateFirst { groups } => {
                    multiply_by_silu(out, gates);
                    let width = inner / groups;
                    for (out, weight) in out.chunks_exact_mut(width).zip(weight.chunks_exact(width)) {
                        rms_norm(out, weight, self.norm.eps, isa);
                    }
                }
            }
        });
    }
}

impl ShortConv {
    /// Returns the matrices that rows of the residual are multiplied with.
    pub(super) fn inputs(&self) -> Forms {
        Linear::forms([&self.before, &self.after, &self.value])
    }

    /// Convolves the rows `x` into `mixed`, `[rows, hidden]`, between both gates.
    pub(super) fn mix(
        &self,
        x: &Activations,
        (streams, layer): (&[Stream<'_>], usize),
        mixed: &mut [f32],
        room: &mut RecurrentRoom,
        cpu: &Cpu,
    ) {
        let [before, after, values] = &mut room.linear;
        let linears = [(&self.before, &mut *before), (&self.after, &mut *after), (&self.value, &mut *values)];
        let mut products = linears.map(|(linear, out)| {
            out.resize(x.tokens() * linear.rows(), 0.0);
            linear.product(x, out)
        });
        multiply(&mut products, cpu);
        values.iter_mut().zip(before).for_each(|(value, before)| *value *= *before);
        self.conv.run(values, streams, (layer, 0), None, mixed, cpu);
        mixed.iter_mut().zip(after).for_each(|(mixed, after)| *mixed *= *after);
    }
}

/// Multiplies with `gate * sigmoid(gate)`.
fn multiply_by_silu(out: &mut [f32], gates: &[f32]) {
    for (out, gate) in out.iter_mut().zip(gates) {
        *out *= gate / (1.0 + (-gate).exp());
    }
}

/// `ln(1 + exp(x))`, which is `x` where the rest is lost; as in PyTorch.
fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}
