//! What is computed of a whole sequence.

use super::{Activation, LinearSpec, NormSpec, SpecError, TensorRef, TensorUse, check};

/// What is computed of a whole sequence: one row is made of its last hidden states, and goes through a few matrices.
#[derive(Clone, Debug, PartialEq)]
pub struct PooledSpec {
    /// How rows become one.
    pub pooling: RowPooling,
    /// What that row goes through, first to last; at least one.
    pub layers: Vec<PooledLayer>,
}

/// How the rows of a sequence become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowPooling {
    /// The first row.
    First,
    /// The last row.
    Last,
    /// The mean of all rows.
    Mean,
}

/// One step of what a pooled row goes through: `norm(activation(linear(x)))`.
#[derive(Clone, Debug, PartialEq)]
pub struct PooledLayer {
    /// The matrix.
    pub linear: LinearSpec,
    /// Applied to its product.
    pub activation: Option<Activation>,
    /// Normalises what comes out.
    pub norm: Option<NormSpec>,
}

impl PooledLayer {
    /// A matrix with nothing behind it.
    pub fn plain(linear: LinearSpec) -> Self {
        Self { linear, activation: None, norm: None }
    }
}

impl PooledSpec {
    /// Returns how many numbers come out.
    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.linear.outputs)
    }

    pub(super) fn collect<'a>(&'a self, all: &mut Vec<TensorUse<'a>>) {
        for PooledLayer { linear, norm, .. } in &self.layers {
            linear.collect(all);
            norm.iter().for_each(|norm| norm.collect(linear.outputs, all));
        }
    }

    pub(super) fn each_tensor(&mut self, work: &mut dyn FnMut(&mut TensorRef)) {
        for PooledLayer { linear, norm, .. } in &mut self.layers {
            linear.each_tensor(work);
            norm.iter_mut().for_each(|norm| norm.each_tensor(work));
        }
    }

    pub(super) fn check(&self, hidden_size: usize, layers: usize) -> Result<(), SpecError> {
        check::rule("a pooled row goes through a matrix", !self.layers.is_empty(), || "none".to_owned())?;
        let mut inputs = hidden_size;
        for PooledLayer { linear, activation, .. } in &self.layers {
            check::width("matrix of the pooled row", linear, inputs, linear.outputs)?;
            activation.map_or(Ok(()), |activation| activation.check(false, layers))?;
            inputs = linear.outputs;
        }
        Ok(())
    }
}
