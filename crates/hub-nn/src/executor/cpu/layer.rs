use std::{ops::Range, sync::Arc};

use hub_kernels::{
    Activations, Attention, Forms, Function, Isa, Kind, Packed, Product, TILE, add_scaled, layer_norm,
    rms_norm,
};

use super::{
    altup::{AltUp, Laurel},
    latent::Latent,
    per_layer::PerLayer,
    recurrent::{Recurrent, ShortConv},
};
use crate::{
    executor::routing::Routing,
    spec::{NormKind, NormScope, QueryTemperature},
};

/// The weights of one layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) mixer: Mixer,
    pub(super) mixer_norms: Norms,
    pub(super) mlp: Mlp,
    pub(super) mlp_norms: Norms,
    pub(super) residual_scale: f32,
    /// Whether the MLP reads what the mixer reads.
    pub(super) is_parallel: bool,
    pub(super) laurel: Option<Laurel>,
    pub(super) altup: Option<AltUp>,
    pub(super) per_layer: Option<PerLayer>,
    /// What leaves the layer is multiplied with that.
    pub(super) output_scale: f32,
}

/// What lets a row see other rows.
#[derive(Debug)]
pub(super) enum Mixer {
    Attention(Box<Attend>),
    Latent(Box<Latent>),
    Recurrent(Box<Recurrent>),
    ShortConv(Box<ShortConv>),
}

/// Attention with its weights.
#[derive(Debug)]
pub(super) struct Attend {
    pub(super) attention: Attention,
    pub(super) query: Linear,
    /// What keys and values are made with; none if they are those of another layer.
    pub(super) kv: Option<OwnKv>,
    /// What tells how much counts of what heads read.
    pub(super) gate: Option<Linear>,
    pub(super) output: Linear,
    pub(super) query_norm: Option<Norm>,
    pub(super) norm_scope: NormScope,
    pub(super) temperature: Option<QueryTemperature>,
    /// Which of the model's rotations turns queries and keys.
    pub(super) rope: Option<usize>,
}

/// What keys and values are made with.
#[derive(Debug)]
pub(super) struct OwnKv {
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) key_norm: Option<Norm>,
    pub(super) value_norm: Option<Norm>,
}

impl Mixer {
    /// Returns the matrices that rows of the residual are multiplied with.
    pub(super) fn inputs(&self) -> Forms {
        match self {
            Self::Attention(attend) => {
                let Attend { query, kv, gate, .. } = &**attend;
                let kv = kv.iter().flat_map(|kv| [&kv.key, &kv.value]);
                Linear::forms([query].into_iter().chain(kv).chain(gate))
            }
            Self::Latent(latent) => latent.inputs(),
            Self::Recurrent(recurrent) => recurrent.inputs(),
            Self::ShortConv(conv) => conv.inputs(),
        }
    }

    /// Returns what makes rows of the residual of what was mixed.
    pub(super) fn output(&self) -> &Linear {
        match self {
            Self::Attention(attend) => &attend.output,
            Self::Latent(latent) => &latent.output,
            Self::Recurrent(recurrent) => &recurrent.output,
            Self::ShortConv(conv) => &conv.output,
        }
    }
}

/// What works on each row alone.
#[derive(Debug)]
pub(super) enum Mlp {
    Dense(Dense),
    Experts(Box<Experts>),
}

/// One MLP.
#[derive(Debug)]
pub(super) struct Dense {
    /// What goes through the function; `up` of an MLP without a gate.
    pub(super) gate: Linear,
    pub(super) up: Option<Linear>,
    pub(super) down: Linear,
    pub(super) function: Function,
    /// How many standard deviations above the mean a gate must be to count.
    pub(super) sparsity: Option<f32>,
}

/// Several gated MLPs, of which each row goes through a few.
#[derive(Debug)]
pub(super) struct Experts {
    pub(super) router: Linear,
    pub(super) routing: Routing,
    pub(super) gate: Stack,
    pub(super) up: Stack,
    pub(super) down: Stack,
    pub(super) function: Function,
    /// What every row goes through besides, and what tells how much of it counts.
    pub(super) shared: Option<(Dense, Option<Linear>)>,
    pub(super) apart: Option<Apart>,
}

/// The norms around router, experts and the shared MLP, where each has its own.
#[derive(Debug)]
pub(super) struct Apart {
    pub(super) router: Norm,
    pub(super) before: Norm,
    pub(super) after: Norm,
    pub(super) shared_after: Norm,
}

/// Matrices of one shape, packed as one: each begins with a tile.
#[derive(Debug)]
pub(super) struct Stack {
    pub(super) matrix: Arc<Packed>,
    /// How many rows each has.
    pub(super) rows: usize,
    /// `[count, rows]`
    pub(super) bias: Option<Vec<f32>>,
}

impl Stack {
    /// Returns the rows of one matrix among all, and what is added to its product.
    pub(super) fn part(&self, index: usize) -> (Range<usize>, Option<&[f32]>) {
        let start = index * self.rows.next_multiple_of(TILE);
        let bias = self.bias.as_ref().map(|bias| &bias[index * self.rows..(index + 1) * self.rows]);
        (start..start + self.rows, bias)
    }
}

impl Mlp {
    /// Returns the matrices that rows of the residual are multiplied with.
    pub(super) fn inputs(&self) -> Forms {
        match self {
            Self::Dense(dense) => Forms::of(dense.kinds()),
            Self::Experts(experts) => {
                let shared = experts.shared.iter();
                let shared = shared.flat_map(|(dense, gate)| {
                    dense.kinds().chain(gate.iter().map(|gate| gate.matrix.kind()))
                });
                let own = [&experts.router.matrix, &experts.gate.matrix, &experts.up.matrix];
                Forms::of(own.into_iter().map(|matrix| matrix.kind()).chain(shared))
            }
        }
    }
}

impl Dense {
    fn kinds(&self) -> impl Iterator<Item = Kind> {
        [&self.gate].into_iter().chain(&self.up).map(|linear| linear.matrix.kind())
    }
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
        self.apply_from(0, row, isa);
    }

    /// Normalises a row by the weights from `start` on.
    pub(super) fn apply_from(&self, start: usize, row: &mut [f32], isa: Isa) {
        let own = start..start + row.len();
        match self.kind {
            NormKind::Rms => rms_norm(row, &self.weight[own], self.eps, isa),
            NormKind::Layer => layer_norm(row, &self.weight[own.clone()], &self.bias[own], self.eps, isa),
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

    /// Returns the product with rows `x`, to be written to `out`.
    pub(super) fn product<'a>(&'a self, x: &'a Activations, out: &'a mut [f32]) -> Product<'a> {
        Product::new(&self.matrix, x, out).bias(self.bias.as_deref())
    }
}
