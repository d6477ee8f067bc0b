use std::sync::Arc;

use hub_kernels::{Attention, Forms, Function, Isa, Packed, add_scaled, layer_norm, rms_norm};

use crate::spec::NormKind;

/// The weights of one layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) attention: Attention,
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) output: Linear,
    pub(super) query_norm: Option<Norm>,
    pub(super) key_norm: Option<Norm>,
    /// Which of the model's rotations turns queries and keys.
    pub(super) rope: Option<usize>,
    pub(super) mixer_norms: Norms,
    pub(super) mlp: Mlp,
    pub(super) mlp_norms: Norms,
    pub(super) residual_scale: f32,
}

/// What works on each row alone.
#[derive(Debug)]
pub(super) struct Mlp {
    /// What goes through the function; `up` of an MLP without a gate.
    pub(super) gate: Linear,
    pub(super) up: Option<Linear>,
    pub(super) down: Linear,
    pub(super) function: Function,
}

/// A matrix and what is added to its product.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) matrix: Arc<Packed>,
    pub(super) bias: Option<Vec<f32>>,
}

/// A normalisation with its weights.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) kind: NormKind,
    pub(super) eps: f32,
    /// `[width]`, the offset already added.
    pub(super) weight: Vec<f32>,
    /// `[width]`.
    pub(super) bias: Vec<f32>,
}

/// The normalisations around one sublayer.
#[derive(Debug)]
pub(super) struct Norms {
    pub(super) before: Option<Norm>,
    pub(super) after: Option<Norm>,
    pub(super) last: Option<Norm>,
}

impl Norm {
    pub(super) fn apply(&self, row: &mut [f32], isa: Isa) {
        match self.kind {
            NormKind::Rms => rms_norm(row, &self.weight, self.eps, isa),
            NormKind::Layer => layer_norm(row, &self.weight, &self.bias, self.eps, isa),
        }
    }
}

/// Normalises if there is anything to normalise with.
pub(super) fn maybe(norm: Option<&Norm>, row: &mut [f32], isa: Isa) {
    if let Some(norm) = norm {
        norm.apply(row, isa);
    }
}

impl Norms {
    /// Adds what a sublayer returned to the residual `x`, as [`SublayerNorms`](crate::spec::SublayerNorms) says.
    /// `scratch` is as long as a row.
    pub(super) fn add(&self, x: &mut [f32], output: &[f32], scale: f32, scratch: &mut [f32], isa: Isa) {
        match &self.after {
            Some(after) => {
                scratch.copy_from_slice(output);
                after.apply(scratch, isa);
                add_scaled(x, scratch, scale);
            }
            None => add_scaled(x, output, scale),
        }
        maybe(self.last.as_ref(), x, isa);
    }
}

impl Linear {
    /// Returns the forms of inputs that these ask for.
    pub(super) fn forms<'a>(all: impl IntoIterator<Item = &'a Self>) -> Forms {
        Forms::of(all.into_iter().map(|linear| linear.matrix.kind()))
    }

    pub(super) fn rows(&self) -> usize {
        self.matrix.rows()
    }
}
