//! What is computed of a whole sequence.

use hub_kernels::{Activations, Cpu, Function, apply, multiply};

use super::{Linear, Norm, layer::maybe};
use crate::{executor::Output, spec::RowPooling};

/// What is computed of a whole sequence, with its weights; [`spec::PooledSpec`](crate::spec::PooledSpec) says what each
/// part is.
#[derive(Debug)]
pub(super) struct Pooled {
    pub(super) pooling: RowPooling,
    pub(super) layers: Vec<PooledLayer>,
}

#[derive(Debug)]
pub(super) struct PooledLayer {
    pub(super) linear: Linear,
    pub(super) function: Option<Function>,
    pub(super) norm: Option<Norm>,
}

impl Pooled {
    /// Computes the wanted rows of all segments, of which `counts` says how many each has.
    pub(super) fn run(&self, x: &[f32], counts: impl Iterator<Item = usize>, output: &mut Output, cpu: &Cpu) {
        let mut width = self.layers.first().map_or(1, |layer| layer.linear.matrix.cols());
        let mut values = match self.pooling {
            RowPooling::First | RowPooling::Last => x.to_vec(),
            RowPooling::Mean => means(x, width, counts),
        };
        for PooledLayer { linear, function, norm } in &self.layers {
            let inputs = Activations::of(&values, width, Linear::forms([linear]), cpu);
            let rows = values.len() / width;
            width = linear.rows();
            values = vec![0.0; rows * width];
            multiply(&mut [linear.product(&inputs, &mut values)], cpu);
            if let Some(function) = function {
                apply(*function, &mut values, cpu.isa());
            }
            values.chunks_exact_mut(width).for_each(|row| maybe(norm.as_ref(), row, cpu.isa()));
        }
        output.plan(values.len() / width, width).copy_from_slice(&values);
    }
}

/// Takes the mean of the rows of each segment.
fn means(x: &[f32], width: usize, counts: impl Iterator<Item = usize>) -> Vec<f32> {
    let mut rows = x.chunks_exact(width);
    let mut means = Vec::new();
    for count in counts.filter(|count| *count > 0) {
        let mut mean = vec![0.0; width];
        for row in rows.by_ref().take(count) {
            mean.iter_mut().zip(row).for_each(|(sum, number)| *sum += number);
        }
        means.extend(mean.into_iter().map(|sum| sum / count as f32));
    }
    means
}

/// Writes rows, each with what `linears` make of it behind it.
pub(super) fn beside(linears: &[Linear], x: &[f32], width: usize, output: &mut Output, cpu: &Cpu) {
    let inputs = Activations::of(x, width, Linear::forms(linears), cpu);
    let rows = x.len() / width;
    let mut made: Vec<Vec<f32>> = linears.iter().map(|linear| vec![0.0; rows * linear.rows()]).collect();
    let mut products: Vec<_> =
        linears.iter().zip(&mut made).map(|(linear, made)| linear.product(&inputs, made)).collect();
    multiply(&mut products, cpu);
    drop(products);
    let whole = width + linears.iter().map(Linear::rows).sum::<usize>();
    for (row, out) in output.plan(rows, whole).chunks_exact_mut(whole).enumerate() {
        let (hidden, mut rest) = out.split_at_mut(width);
        hidden.copy_from_slice(&x[row * width..(row + 1) * width]);
        for (linear, made) in linears.iter().zip(&made) {
            let (part, others) = rest.split_at_mut(linear.rows());
            part.copy_from_slice(&made[row * linear.rows()..(row + 1) * linear.rows()]);
            rest = others;
        }
    }
}
