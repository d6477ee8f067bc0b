//! Reads and packs the tensors of a model.

mod matrices;
mod mixers;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hub_base::{CancelToken, Progress, ProgressSink, Reservation};
use hub_kernels::{Cpu, Function, Packed};

use self::matrices::Kept;
use super::{
    Layer, Model, ModelHead, Norm, Widths,
    altup::{AltUp, Laurel, Streams},
    layer::{self, Experts},
    packing::Packing,
    per_layer::{PerLayer, PerLayerTable},
    pooled::{Pooled, PooledLayer},
};
use crate::{
    Device, Error,
    executor::{rope::Ropes, routing::Routing},
    spec::{
        self, Activation, AltUpSpec, ExpertSpec, ExpertsSpec, Head, LaurelSpec, LayerSpec, Mask, ModelSpec,
        NormSpec, PerLayerEmbedding, PerLayerSpec, PooledSpec, RopeSpec, SharedSpec, StreamsSpec, TensorRef,
    },
    weights::{PackedFile, Stamp, Weights},
};

/// Reads and packs what a specification names, checks it, and pays for it first.
pub(super) struct Loader<'a> {
    weights: &'a Weights,
    device: &'a Device,
    cpu: &'a Cpu,
    packing: Packing,
    progress: &'a ProgressSink,
    cancel: &'a CancelToken,
    done_bytes: AtomicU64,
    total_bytes: u64,
    /// Matrices by place: a tied one is read once.
    matrices: HashMap<TensorRef, Arc<Packed>>,
    /// Where packed matrices are kept, if they are.
    kept: Option<Kept<'a>>,
    ropes: Ropes,
}

impl<'a> Loader<'a> {
    pub(super) fn new(
        weights: &'a Weights,
        device: &'a Device,
        cpu: &'a Cpu,
        packing: Packing,
        progress: &'a ProgressSink,
        cancel: &'a CancelToken,
    ) -> Self {
        Self {
            weights,
            device,
            cpu,
            packing,
            progress,
            cancel,
            done_bytes: AtomicU64::new(0),
            total_bytes: weights.total_bytes(),
            matrices: HashMap::new(),
            kept: Kept::of(weights),
            ropes: Ropes::default(),
        }
    }

    /// Reads the whole model.
    pub(super) fn model(mut self, spec: &ModelSpec) -> Result<Model, Error> {
        spec.check()?;
        spec.check_tensors(self.weights.shapes())?;
        let reservation = self.reserve(spec)?;
        let embedding = &spec.embedding;
        let width = spec.hidden_size;
        let table = self.matrix(&embedding.table)?;
        let positions = embedding.positions.as_ref();
        let positions = positions.map(|positions| self.table(&positions.table, width)).transpose()?;
        let token_types = embedding.token_types.as_ref();
        let token_types = token_types.map(|types| self.table(types, width)).transpose()?;
        let embedding_norm = self.maybe_norm(embedding.norm.as_ref())?;
        let per_layer = embedding.per_layer.as_ref().map(|spec| self.per_layer_table(spec)).transpose()?;
        let streams = spec.streams.as_ref().map(|spec| self.streams(spec)).transpose()?;
        let layers = spec.layers.iter().map(|layer| self.layer(layer, spec.mask));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let final_norm = self.maybe_norm(spec.final_norm.as_ref())?;
        let head = match &spec.head {
            Head::None => ModelHead::None,
            Head::Logits { linear, scale, soft_cap } => {
                ModelHead::Logits { linear: self.linear(linear)?, scale: *scale, soft_cap: *soft_cap }
            }
            Head::Classifier(pooled) | Head::Vector(pooled) => ModelHead::Pooled(self.pooled(pooled)?),
            Head::Beside(linears) => {
                let linears = linears.iter().map(|linear| self.linear(linear));
                ModelHead::Beside(linears.collect::<Result<_, _>>()?)
            }
        };
        self.keep()?;
        let ropes = self.ropes.into_all();
        Ok(Model {
            table,
            positions,
            token_types,
            embedding_norm,
            per_layer,
            streams,
            widths: Widths::of(&layers, spec.hidden_size),
            layers,
            final_norm,
            head,
            ropes,
            reservation,
        })
    }

    /// Writes what was packed to the file that it is to be kept in. A disk that is full costs the file, not the model.
    fn keep(&self) -> Result<(), Error> {
        let Some(Kept { place, stamps, file: None }) = &self.kept else { return Ok(()) };
        // What changed meanwhile may have been read half before and half after.
        if Stamp::of_all(self.weights.meaning_files()).as_ref() != Some(stamps) {
            return Ok(());
        }
        let mut matrices: Vec<_> = self.matrices.iter().map(|(tensor, packed)| (tensor, &**packed)).collect();
        matrices.sort_by_key(|(tensor, _)| (&tensor.name, tensor.rows.map(|rows| (rows.start, rows.step))));
        let total = matrices.iter().map(|(_, packed)| packed.bytes() as u64).sum();
        let mut done = 0;
        let report = |bytes: usize| {
            done += bytes as u64;
            self.progress.report(Progress { stage: "keeping packed weights", done, total });
        };
        match PackedFile::write(place, stamps.clone(), &matrices, self.cancel, report) {
            Err(_) if self.cancel.is_cancelled() => Err(Error::Cancelled),
            Err(error) => {
                tracing::warn!(path = %place.path().display(), %error, "packed weights are not kept");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Pays for every tensor before the first is read.
    fn reserve(&self, spec: &ModelSpec) -> Result<Reservation, Error> {
        let fail = |source| Error::Memory { what: "the weights", source };
        self.device.account().reserve(self.packing.weight_bytes(spec, self.weights)).map_err(fail)
    }

    fn layer(&mut self, layer: &LayerSpec, mask: Mask) -> Result<Layer, Error> {
        Ok(Layer {
            mixer: self.mixer(&layer.mixer, mask)?,
            mixer_norms: self.norms(&layer.mixer_norms)?,
            mlp: self.mlp(&layer.mlp)?,
            mlp_norms: self.norms(&layer.mlp_norms)?,
            residual_scale: layer.residual_scale,
            is_parallel: layer.is_parallel,
            laurel: layer.laurel.as_ref().map(|spec| self.laurel(spec)).transpose()?,
            altup: layer.altup.as_ref().map(|spec| self.altup(spec)).transpose()?,
            per_layer: layer.per_layer.as_ref().map(|spec| self.per_layer(spec)).transpose()?,
            output_scale: match &layer.output_scale {
                Some(scale) => self.numbers(scale)?.first().copied().unwrap_or(1.0),
                None => 1.0,
            },
        })
    }

    fn streams(&mut self, spec: &StreamsSpec) -> Result<Streams, Error> {
        let projections = spec.projections.iter().map(|linear| self.linear(linear));
        let projections = projections.collect::<Result<_, _>>()?;
        let unembed_projections = spec.unembed_projections.iter().map(|linear| self.linear(linear));
        let unembed_projections = unembed_projections.collect::<Result<_, _>>()?;
        Ok(Streams { projections, unembed_projections, least_square: spec.least_square })
    }

    fn altup(&mut self, spec: &AltUpSpec) -> Result<AltUp, Error> {
        Ok(AltUp {
            router: self.linear(&spec.router)?,
            router_norm: self.norm(&spec.router_norm)?,
            router_scale: spec.router_scale,
            prediction: self.numbers(&spec.prediction)?,
            correction: self.numbers(&spec.correction)?,
            output_scale: spec.output_scale.as_ref().map(|scale| self.numbers(scale)).transpose()?,
        })
    }

    fn laurel(&mut self, spec: &LaurelSpec) -> Result<Laurel, Error> {
        Ok(Laurel {
            left: self.linear(&spec.left)?,
            right: self.linear(&spec.right)?,
            norm: self.norm(&spec.norm)?,
            scale: spec.scale,
        })
    }

    fn per_layer(&mut self, spec: &PerLayerSpec) -> Result<PerLayer, Error> {
        Ok(PerLayer {
            gate: self.linear(&spec.gate)?,
            function: function(spec.activation),
            projection: self.linear(&spec.projection)?,
            norms: layer::Norms { before: None, after: Some(self.norm(&spec.norm)?), last: None },
        })
    }

    fn per_layer_table(&mut self, spec: &PerLayerEmbedding) -> Result<PerLayerTable, Error> {
        Ok(PerLayerTable {
            width: spec.width,
            vocab_size: spec.vocab_size,
            other_token: spec.other_token,
            table: self.matrix(&spec.table)?,
            table_scale: spec.table_scale,
            projection: self.linear(&spec.projection)?,
            projection_scale: spec.projection_scale,
            norm: self.norm(&spec.norm)?,
            scale: spec.scale,
        })
    }

    fn mlp(&mut self, mlp: &spec::Mlp) -> Result<layer::Mlp, Error> {
        let (gate, up, down, activation, sparsity) = match mlp {
            spec::Mlp::Gated { gate, up, down, activation, sparsity } => {
                (gate, Some(up), down, activation, *sparsity)
            }
            spec::Mlp::Plain { up, down, activation } => (up, None, down, activation, None),
            spec::Mlp::Experts(experts) => return Ok(layer::Mlp::Experts(Box::new(self.experts(experts)?))),
        };
        Ok(layer::Mlp::Dense(layer::Dense {
            gate: self.linear(gate)?,
            up: up.map(|up| self.linear(up)).transpose()?,
            down: self.linear(down)?,
            function: function(*activation),
            sparsity,
        }))
    }

    fn experts(&mut self, spec: &ExpertsSpec) -> Result<Experts, Error> {
        let correction = spec.routing.correction.as_ref().map(|tensor| self.numbers(tensor)).transpose()?;
        let expert_scale =
            spec.routing.expert_scale.as_ref().map(|tensor| self.numbers(tensor)).transpose()?;
        let shared = match &spec.shared {
            None => None,
            Some(SharedSpec { mlp, gate }) => match self.mlp(mlp)? {
                layer::Mlp::Dense(dense) => {
                    Some((dense, gate.as_ref().map(|gate| self.linear(gate)).transpose()?))
                }
                // Refused by the check of the specification.
                layer::Mlp::Experts(_) => None,
            },
        };
        Ok(Experts {
            router: self.linear(&spec.router)?,
            routing: Routing {
                spec: spec.routing.clone(),
                correction: correction.unwrap_or_default(),
                expert_scale: expert_scale.unwrap_or_default(),
            },
            apart: match &spec.apart {
                Some(apart) => Some(layer::Apart {
                    router: self.norm(&apart.router)?,
                    before: self.norm(&apart.before)?,
                    after: self.norm(&apart.after)?,
                    shared_after: self.norm(&apart.shared_after)?,
                }),
                None => None,
            },
            gate: self.stack(&spec.experts, |expert: &ExpertSpec| &expert.gate)?,
            up: self.stack(&spec.experts, |expert| &expert.up)?,
            down: self.stack(&spec.experts, |expert| &expert.down)?,
            function: function(spec.activation),
            shared,
        })
    }

    /// Returns the index of a layer's rotation among the model's.
    fn rope(&mut self, rope: Option<&RopeSpec>) -> Result<Option<usize>, Error> {
        let mut ropes = std::mem::take(&mut self.ropes);
        let index = rope.map(|rope| ropes.index(rope, |tensor| self.numbers(tensor))).transpose();
        self.ropes = ropes;
        index
    }

    fn norms(&self, norms: &spec::SublayerNorms) -> Result<layer::Norms, Error> {
        Ok(layer::Norms {
            before: self.maybe_norm(norms.before.as_ref())?,
            after: self.maybe_norm(norms.after.as_ref())?,
            last: self.maybe_norm(norms.last.as_ref())?,
        })
    }

    fn maybe_norm(&self, norm: Option<&NormSpec>) -> Result<Option<Norm>, Error> {
        norm.map(|norm| self.norm(norm)).transpose()
    }

    fn norm(&self, norm: &NormSpec) -> Result<Norm, Error> {
        let mut weight = self.numbers(&norm.weight)?;
        if norm.weight_offset != 0.0 {
            weight.iter_mut().for_each(|weight| *weight += norm.weight_offset);
        }
        let bias = match &norm.bias {
            Some(bias) => self.numbers(bias)?,
            None => vec![0.0; weight.len()],
        };
        Ok(Norm { kind: norm.kind, eps: norm.eps, weight, bias })
    }

    fn pooled(&mut self, spec: &PooledSpec) -> Result<Pooled, Error> {
        let layers = spec.layers.iter().map(|layer| {
            Ok(PooledLayer {
                linear: self.linear(&layer.linear)?,
                function: layer.activation.map(function),
                norm: self.maybe_norm(layer.norm.as_ref())?,
            })
        });
        Ok(Pooled { pooling: spec.pooling, layers: layers.collect::<Result<_, Error>>()? })
    }

    fn check_cancelled(&self) -> Result<(), Error> {
        if self.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn report(&self, bytes: usize) {
        let done = self.done_bytes.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        self.progress.report(Progress { stage: "reading weights", done, total: self.total_bytes });
    }
}

fn function(activation: Activation) -> Function {
    match activation {
        Activation::Silu => Function::Silu,
        Activation::Gelu => Function::Gelu,
        Activation::GeluTanh => Function::GeluTanh,
        Activation::Relu => Function::Relu,
        Activation::Tanh => Function::Tanh,
        Activation::ClampedSwish { slope, limit } => Function::ClampedSwish { slope, limit },
    }
}

fn missing(name: &str) -> Error {
    crate::weights::Error::Missing { file: String::new(), name: name.to_owned() }.into()
}
