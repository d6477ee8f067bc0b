//! The residual, and what rows pass alone.

use hub_kernels::{Activations, add_scaled, apply, gate, multiply};

use super::{Pending, Step, sigmoid};
use crate::executor::cpu::{
    Layer, Linear,
    layer::{Dense, Mlp, maybe},
    means::cut,
    plan::Scratch,
};

impl Step<'_> {
    /// Multiplies the means of the values with the output matrix.
    pub(super) fn project(&self, scratch: &mut Scratch, layer: &Layer, rows: usize) {
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
    pub(super) fn norm_for_mlp(&self, scratch: &mut Scratch, layer: &Layer, rows: usize) {
        let then = layer.laurel.as_ref().map_or(1.0, |laurel| laurel.scale);
        let pending = Pending { norms: &layer.mixer_norms, scale: layer.residual_scale, then };
        self.norm_in(scratch, rows, Some(pending), layer.mlp_norms.before.as_ref(), layer.mlp.inputs());
    }

    /// Adds what the mixer returned, where the MLP's inputs are the mixer's own.
    pub(super) fn add_mixer(&self, scratch: &mut Scratch, layer: &Layer, rows: usize) {
        let (width, isa) = (self.spec.hidden_size, self.cpu.isa());
        let Scratch { x, y, .. } = scratch;
        let outputs = &*y;
        self.cpu.each_chunk(&mut x[..rows * width], width, |row, x| {
            add_scaled(x, &outputs[row * width..(row + 1) * width], layer.residual_scale);
            maybe(layer.mixer_norms.last.as_ref(), x, isa);
        });
    }

    /// Runs the MLP.
    pub(super) fn mlp(&self, scratch: &mut Scratch, layer: &Layer, rows: usize) {
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
    pub(super) fn dense(
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
}
