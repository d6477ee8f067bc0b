//! The second embedding, of which every layer has a part of its own.

use std::sync::Arc;

use hub_kernels::{Activations, Cpu, Function, Packed, gate, multiply};

use super::layer::{Linear, Norm, Norms};

/// A second embedding; [`spec::PerLayerEmbedding`](crate::spec::PerLayerEmbedding) says what each part is.
#[derive(Debug)]
pub(super) struct PerLayerTable {
    pub(super) width: usize,
    pub(super) vocab_size: usize,
    pub(super) other_token: Option<u32>,
    pub(super) table: Arc<Packed>,
    pub(super) table_scale: f32,
    pub(super) projection: Linear,
    pub(super) projection_scale: f32,
    pub(super) norm: Norm,
    pub(super) scale: f32,
}

/// What a layer does with its part; [`spec::PerLayerSpec`](crate::spec::PerLayerSpec) says what each part is.
#[derive(Debug)]
pub(super) struct PerLayer {
    pub(super) gate: Linear,
    pub(super) function: Function,
    pub(super) projection: Linear,
    /// Of what is added.
    pub(super) norms: Norms,
}

/// The parts of all rows and layers; kept from one step to the next.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) tokens: Vec<u32>,
    /// `[rows, layers, width]`
    pub(super) all: Vec<f32>,
    looked_up: Vec<f32>,
    gates: Vec<f32>,
}

impl PerLayerTable {
    /// Computes the parts of rows `x`, `[rows, hidden]`, that enter the first layer.
    pub(super) fn fill(&self, x: &[f32], inputs: &mut Activations, parts: &mut Parts, cpu: &Cpu) {
        let (rows, hidden) = (parts.tokens.len(), self.projection.matrix.cols());
        let width = self.projection.rows();
        inputs.fill(Linear::forms([&self.projection]), rows, hidden, cpu, |row, out| {
            out.copy_from_slice(&x[row * hidden..(row + 1) * hidden]);
        });
        let Parts { tokens, all, looked_up, .. } = parts;
        looked_up.resize(rows * width, 0.0);
        cpu.each_chunk(looked_up, width, |row, out| self.table.unpack(tokens[row] as usize, out));
        all.resize(rows * width, 0.0);
        multiply(&mut [self.projection.product(inputs, all)], cpu);
        let looked_up = &*looked_up;
        cpu.each_chunk(all, width, |row, all| {
            let looked_up = &looked_up[row * width..(row + 1) * width];
            for (part, looked_up) in all.chunks_exact_mut(self.width).zip(looked_up.chunks_exact(self.width))
            {
                part.iter_mut().for_each(|number| *number *= self.projection_scale);
                self.norm.apply(part, cpu.isa());
                for (number, looked_up) in part.iter_mut().zip(looked_up) {
                    *number = (*number + looked_up * self.table_scale) * self.scale;
                }
            }
        });
    }
}

impl PerLayer {
    /// Makes what the layer with number `layer` adds to rows `x`, before its norm: `[rows, hidden]`.
    pub(super) fn run(
        &self,
        x: &Activations,
        layer: usize,
        (parts, layers): (&mut Parts, usize),
        inner: &mut Activations,
        out: &mut [f32],
        cpu: &Cpu,
    ) {
        let (rows, width) = (x.tokens(), self.gate.rows());
        let Parts { all, gates, .. } = parts;
        gates.resize(rows * width, 0.0);
        multiply(&mut [self.gate.product(x, gates)], cpu);
        let (gates, all) = (&*gates, &*all);
        inner.fill(Linear::forms([&self.projection]), rows, width, cpu, |row, out| {
            out.copy_from_slice(&gates[row * width..(row + 1) * width]);
            gate(self.function, out, &all[(row * layers + layer) * width..][..width], cpu.isa());
        });
        multiply(&mut [self.projection.product(inner, out)], cpu);
    }
}
