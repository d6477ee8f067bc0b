use std::{collections::HashMap, sync::Arc};

use candle_core::{DType, Device as CandleDevice, Tensor};
use hub_base::{CancelToken, Progress, ProgressSink, Reservation};
use hub_kernels::Packed;

use super::{
    Layer, Model, ModelHead,
    altup::{AltUp, Laurel, Streams},
    attention::{Attention, OwnKv},
    experts::{Apart, Experts},
    latent::Latent,
    matrix::{Linear, Matrix},
    mixer::Mixer,
    mlp::Mlp,
    norm::{Norm, Norms},
    packed::PackedMatrix,
    per_layer::{PerLayer, PerLayerTable},
    pooled::{Pooled, PooledLayer},
    recurrent::{self, Conv, Recurrent, ShortConv},
};
use crate::{
    Device, Error,
    executor::{rope::Ropes, routing::Routing},
    spec::{
        self, AltUpSpec, AttentionSpec, ConvSpec, ExpertSpec, ExpertsSpec, Head, KeyForm, LatentSpec,
        LaurelSpec, LayerSpec, LinearSpec, ModelSpec, NormSpec, PerLayerEmbedding, PerLayerSpec, PooledSpec,
        RateForm, RecurrentSpec, RopeSpec, SharedSpec, StreamsSpec, TensorRef, TensorUse,
    },
    weights::{RawTensor, TensorInfo, WeightKind, Weights},
};

/// Reads what a specification names, checks it, and pays for it first.
pub(super) struct Loader<'a> {
    pub(super) weights: &'a Weights,
    pub(super) device: &'a Device,
    pub(super) progress: &'a ProgressSink,
    pub(super) cancel: &'a CancelToken,
    done_bytes: u64,
    total_bytes: u64,
    /// Matrices by place: a tied one is read once.
    matrices: HashMap<TensorRef, Matrix>,
    ropes: Ropes,
}

impl<'a> Loader<'a> {
    pub(super) fn new(
        weights: &'a Weights,
        device: &'a Device,
        progress: &'a ProgressSink,
        cancel: &'a CancelToken,
    ) -> Self {
        let (matrices, ropes) = (HashMap::new(), Ropes::default());
        Self { weights, device, progress, cancel, done_bytes: 0, total_bytes: 0, matrices, ropes }
    }

    /// Reads the whole model.
    pub(super) fn model(mut self, spec: &ModelSpec) -> Result<Model, Error> {
        spec.check()?;
        spec.check_tensors(self.weights.shapes())?;
        let reservation = self.reserve(spec)?;
        let embedding = &spec.embedding;
        let table = self.matrix(&embedding.table)?;
        let positions = embedding.positions.as_ref();
        let positions = positions.map(|positions| self.full(&positions.table)).transpose()?;
        let token_types = embedding.token_types.as_ref().map(|types| self.full(types)).transpose()?;
        let embedding_norm = self.maybe_norm(&embedding.norm)?;
        let per_layer = embedding.per_layer.as_ref().map(|spec| self.per_layer_table(spec)).transpose()?;
        let streams = spec.streams.as_ref().map(|spec| self.streams(spec)).transpose()?;
        let layers = spec.layers.iter().map(|layer| self.layer(layer)).collect::<Result<_, _>>()?;
        let final_norm = self.maybe_norm(&spec.final_norm)?;
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
        let ropes = self.ropes.into_all();
        Ok(Model {
            table,
            positions,
            token_types,
            embedding_norm,
            per_layer,
            streams,
            layers,
            final_norm,
            head,
            ropes,
            reservation,
        })
    }

    /// Pays for every tensor before the first is read.
    fn reserve(&mut self, spec: &ModelSpec) -> Result<Reservation, Error> {
        self.total_bytes = self.weights.total_bytes();
        let bytes = weight_bytes(spec, self.weights, self.device.candle());
        let fail = |source| Error::Memory { what: "the weights", source };
        self.device.account().reserve(bytes).map_err(fail)
    }

    fn layer(&mut self, layer: &LayerSpec) -> Result<Layer, Error> {
        Ok(Layer {
            mixer: self.mixer(&layer.mixer)?,
            mixer_norms: self.norms(&layer.mixer_norms)?,
            mlp: self.mlp(&layer.mlp)?,
            mlp_norms: self.norms(&layer.mlp_norms)?,
            residual_scale: layer.residual_scale,
            is_parallel: layer.is_parallel,
            laurel: layer.laurel.as_ref().map(|spec| self.laurel(spec)).transpose()?,
            altup: layer.altup.as_ref().map(|spec| self.altup(spec)).transpose()?,
            per_layer: layer.per_layer.as_ref().map(|spec| self.per_layer(spec)).transpose()?,
            output_scale: match &layer.output_scale {
                Some(scale) => self.vector(scale)?.first().copied(),
                None => None,
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
            prediction: self.full(&spec.prediction)?,
            correction: self.full(&spec.correction)?,
            output_scale: spec.output_scale.as_ref().map(|scale| self.full(scale)).transpose()?,
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

    fn pooled(&mut self, spec: &PooledSpec) -> Result<Pooled, Error> {
        let layers = spec.layers.iter().map(|layer| {
            Ok(PooledLayer {
                linear: self.linear(&layer.linear)?,
                activation: layer.activation,
                norm: self.maybe_norm(&layer.norm)?,
            })
        });
        Ok(Pooled { pooling: spec.pooling, layers: layers.collect::<Result<_, Error>>()? })
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

    fn per_layer(&mut self, spec: &PerLayerSpec) -> Result<PerLayer, Error> {
        Ok(PerLayer {
            gate: self.linear(&spec.gate)?,
            activation: spec.activation,
            projection: self.linear(&spec.projection)?,
            norm: self.norm(&spec.norm)?,
        })
    }

    fn mixer(&mut self, mixer: &spec::Mixer) -> Result<Mixer, Error> {
        Ok(match mixer {
            spec::Mixer::Attention(spec) => Mixer::Attention(Box::new(self.attention(spec)?)),
            spec::Mixer::Latent(spec) => Mixer::Latent(Box::new(self.latent(spec)?)),
            spec::Mixer::Recurrent(spec) => Mixer::Recurrent(Box::new(self.recurrent(spec)?)),
            spec::Mixer::ShortConv(spec) => Mixer::ShortConv(Box::new(ShortConv {
                before: self.linear(&spec.before)?,
                after: self.linear(&spec.after)?,
                value: self.linear(&spec.value)?,
                conv: self.conv(&[&spec.conv])?,
                output: self.linear(&spec.output)?,
            })),
        })
    }

    fn own_kv(&mut self, spec: &spec::OwnKv, head_dim: usize) -> Result<OwnKv, Error> {
        let ones = Tensor::ones(head_dim, DType::F32, self.candle()).map_err(|source| self.failed(source))?;
        let unit = |eps| Norm { kind: spec::NormKind::Rms, eps, bias: ones.clone(), weight: ones.clone() };
        Ok(OwnKv {
            key: self.linear(&spec.key)?,
            value: self.linear(&spec.value)?,
            key_norm: self.maybe_norm(&spec.key_norm)?,
            value_norm: spec.value_norm_eps.map(unit),
        })
    }

    fn latent(&mut self, spec: &LatentSpec) -> Result<Latent, Error> {
        let query_latent = match &spec.query_latent {
            Some((linear, norm)) => Some((self.linear(linear)?, self.norm(norm)?)),
            None => None,
        };
        let key = self.heads(&spec.key)?;
        let key = match spec.key_form {
            KeyForm::Key => key,
            KeyForm::Query => key.transpose(1, 2).map_err(|source| self.failed(source))?,
        };
        Ok(Latent {
            heads: spec.heads,
            rank: spec.rank,
            nope_dim: spec.nope_dim,
            rope_dim: spec.rope_dim,
            value_dim: spec.value_dim,
            query_latent,
            query: self.linear(&spec.query)?,
            latent: self.linear(&spec.latent)?,
            latent_norm: self.norm(&spec.latent_norm)?,
            key_rope: self.linear(&spec.key_rope)?,
            key,
            value: self.heads(&spec.value)?,
            output: self.linear(&spec.output)?,
            rope: self.rope(Some(&spec.rope))?.unwrap_or_default(),
            scale: spec.scale,
        })
    }

    /// Reads the matrices of all heads.
    fn heads(&mut self, tensors: &[TensorRef]) -> Result<Tensor, Error> {
        let all = tensors.iter().map(|tensor| self.full(tensor)).collect::<Result<Vec<_>, _>>()?;
        Tensor::stack(&all, 0).map_err(|source| self.failed(source))
    }

    fn recurrent(&mut self, spec: &RecurrentSpec) -> Result<Recurrent, Error> {
        let mut rate = self.full(&spec.rate)?;
        if spec.rate_form == RateForm::Log {
            rate = rate.exp().and_then(|rate| rate.neg()).map_err(|source| self.failed(source))?;
        }
        let convs = spec.convolved().map(|part| &part.conv);
        Ok(Recurrent {
            heads: spec.heads,
            key_heads: spec.key_heads,
            key_order: spec.key_order,
            key_dim: spec.key_dim,
            value_dim: spec.value_dim,
            linears: [
                self.linear(&spec.query.linear)?,
                self.linear(&spec.key.linear)?,
                self.linear(&spec.value.linear)?,
            ],
            conv: self.conv(&convs)?,
            gate: self.linear(&spec.gate)?,
            step: self.linear(&spec.step)?,
            step_bias: self.full(&spec.step_bias)?,
            step_limits: spec.step_limits,
            rate,
            rule: match &spec.rule {
                spec::Rule::Delta { beta } => recurrent::Rule::Delta { beta: self.linear(beta)? },
                spec::Rule::StateSpace { skip } => recurrent::Rule::StateSpace { skip: self.full(skip)? },
            },
            norm: self.norm(&spec.norm)?,
            gating: spec.gating,
            output: self.linear(&spec.output)?,
        })
    }

    /// Reads convolutions of channels after another as one.
    fn conv(&mut self, specs: &[&ConvSpec]) -> Result<Conv, Error> {
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for spec in specs {
            weights.push(self.full(&spec.weight)?);
            biases.extend(spec.bias.as_ref().map(|bias| self.full(bias)).transpose()?);
        }
        let cat = |parts: &[Tensor]| Tensor::cat(parts, 0).map_err(|source| self.failed(source));
        let bias = if biases.is_empty() { None } else { Some(cat(&biases)?) };
        Ok(Conv { weight: cat(&weights)?, bias })
    }

    fn mlp(&mut self, mlp: &spec::Mlp) -> Result<Mlp, Error> {
        Ok(match mlp {
            spec::Mlp::Gated { gate, up, down, activation, sparsity } => Mlp::Gated {
                gate: self.linear(gate)?,
                up: self.linear(up)?,
                down: self.linear(down)?,
                activation: *activation,
                sparsity: *sparsity,
            },
            spec::Mlp::Plain { up, down, activation } => {
                Mlp::Plain { up: self.linear(up)?, down: self.linear(down)?, activation: *activation }
            }
            spec::Mlp::Experts(experts) => Mlp::Experts(Box::new(self.experts(experts)?)),
        })
    }

    fn experts(&mut self, spec: &ExpertsSpec) -> Result<Experts, Error> {
        let correction = spec.routing.correction.as_ref().map(|tensor| self.vector(tensor)).transpose()?;
        let mut experts = Vec::with_capacity(spec.experts.len());
        for ExpertSpec { gate, up, down } in &spec.experts {
            experts.push(Mlp::Gated {
                gate: self.linear(gate)?,
                up: self.linear(up)?,
                down: self.linear(down)?,
                activation: spec.activation,
                sparsity: None,
            });
        }
        let shared = match &spec.shared {
            Some(SharedSpec { mlp, gate }) => {
                let gate = gate.as_ref().map(|gate| self.linear(gate)).transpose()?;
                Some((Box::new(self.mlp(mlp)?), gate))
            }
            None => None,
        };
        let expert_scale =
            spec.routing.expert_scale.as_ref().map(|tensor| self.vector(tensor)).transpose()?;
        let routing = Routing {
            spec: spec.routing.clone(),
            correction: correction.unwrap_or_default(),
            expert_scale: expert_scale.unwrap_or_default(),
        };
        let apart = match &spec.apart {
            Some(apart) => Some(Apart {
                router: self.norm(&apart.router)?,
                before: self.norm(&apart.before)?,
                after: self.norm(&apart.after)?,
                shared_after: self.norm(&apart.shared_after)?,
            }),
            None => None,
        };
        Ok(Experts { router: self.linear(&spec.router)?, routing, experts, shared, apart })
    }

    /// Reads a few numbers for the processor.
    fn vector(&mut self, tensor: &TensorRef) -> Result<Vec<f32>, Error> {
        let raw = self.raw(tensor)?;
        self.numbers(tensor, &raw)
    }

    fn attention(&mut self, attention: &AttentionSpec) -> Result<Attention, Error> {
        Ok(Attention {
            heads: attention.heads,
            kv_heads: attention.kv_heads,
            head_dim: attention.head_dim,
            query: self.linear(&attention.query)?,
            kv: attention.own_kv().map(|kv| self.own_kv(kv, attention.head_dim)).transpose()?,
            output: self.linear(&attention.output)?,
            query_norm: self.maybe_norm(&attention.query_norm)?,
            norm_scope: attention.norm_scope,
            rope: self.rope(attention.rope.as_ref())?,
            scale: attention.scale,
            temperature: attention.temperature,
            window: attention.window,
            soft_cap: attention.soft_cap,
            sinks: attention.sinks.as_ref().map(|sinks| self.full(sinks)).transpose()?,
            gate: attention.gate.as_ref().map(|gate| self.linear(gate)).transpose()?,
        })
    }

    /// Returns the index of a layer's rotation among the model's.
    fn rope(&mut self, rope: Option<&RopeSpec>) -> Result<Option<usize>, Error> {
        let mut ropes = std::mem::take(&mut self.ropes);
        let index = rope.map(|rope| ropes.index(rope, |tensor| self.vector(tensor))).transpose();
        self.ropes = ropes;
        index
    }

    fn norms(&mut self, norms: &spec::SublayerNorms) -> Result<Norms, Error> {
        Ok(Norms {
            before: self.maybe_norm(&norms.before)?,
            after: self.maybe_norm(&norms.after)?,
            last: self.maybe_norm(&norms.last)?,
        })
    }

    fn maybe_norm(&mut self, norm: &Option<NormSpec>) -> Result<Option<Norm>, Error> {
        norm.as_ref().map(|norm| self.norm(norm)).transpose()
    }

    fn norm(&mut self, norm: &NormSpec) -> Result<Norm, Error> {
        let mut weight = self.full(&norm.weight)?;
        if norm.weight_offset != 0.0 {
            weight = (weight + f64::from(norm.weight_offset)).map_err(|source| self.failed(source))?;
        }
        let bias = match &norm.bias {
            Some(bias) => self.full(bias)?,
            None => weight.zeros_like().map_err(|source| self.failed(source))?,
        };
        Ok(Norm { kind: norm.kind, eps: norm.eps, weight, bias })
    }

    fn linear(&mut self, linear: &LinearSpec) -> Result<Linear, Error> {
        let matrix = self.matrix(&linear.weight)?;
        let bias = linear.bias.as_ref().map(|bias| self.full(bias)).transpose()?;
        Ok(Linear { matrix, bias })
    }

    fn matrix(&mut self, tensor: &TensorRef) -> Result<Matrix, Error> {
        if let Some(known) = self.matrices.get(tensor) {
            return Ok(known.clone());
        }
        let raw = self.raw(tensor)?;
        let matrix = match raw.kind {
            WeightKind::F16 | WeightKind::BF16 => Matrix::Half(self.half(&raw)?),
            kind if candle_packs(kind) => Matrix::Quantized(Arc::new(raw.to_qtensor(self.candle())?)),
            kind if kind.is_quantized() => {
                let packed = PackedMatrix::of(&raw, self.candle()).map_err(|source| self.failed(source))?;
                packed.map_or_else(
                    || self.tensor(tensor, &raw).map(Matrix::Full),
                    |packed| Ok(Matrix::Packed(packed)),
                )?
            }
            _ => Matrix::Full(self.tensor(tensor, &raw)?),
        };
        self.matrices.insert(tensor.clone(), matrix.clone());
        Ok(matrix)
    }

    fn half(&self, raw: &RawTensor) -> Result<Tensor, Error> {
        let dtype = if raw.kind == WeightKind::F16 { DType::F16 } else { DType::BF16 };
        Tensor::from_raw_buffer(&raw.bytes, dtype, &raw.shape, self.candle())
            .map_err(|source| self.failed(source))
    }

    /// Reads a small tensor, or a table of positions, into `f32`.
    fn full(&mut self, tensor: &TensorRef) -> Result<Tensor, Error> {
        let raw = self.raw(tensor)?;
        self.tensor(tensor, &raw)
    }

    fn tensor(&self, tensor: &TensorRef, raw: &RawTensor) -> Result<Tensor, Error> {
        let numbers = self.numbers(tensor, raw)?;
        Tensor::from_vec(numbers, raw.shape.as_slice(), self.candle()).map_err(|source| self.failed(source))
    }

    fn numbers(&self, tensor: &TensorRef, raw: &RawTensor) -> Result<Vec<f32>, Error> {
        if !(raw.kind.is_float() || raw.kind.is_quantized()) {
            return Err(Error::WeightKind { name: tensor.name.clone(), kind: raw.kind.as_str() });
        }
        Ok(raw.to_f32()?)
    }

    /// Reads a tensor, or the rows of it that are meant.
    fn raw(&mut self, tensor: &TensorRef) -> Result<RawTensor, Error> {
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let raw = self.weights.read_part(tensor)?;
        self.done_bytes += raw.bytes.len() as u64;
        let event = Progress { stage: "reading weights", done: self.done_bytes, total: self.total_bytes };
        self.progress.report(event);
        Ok(raw)
    }

    fn candle(&self) -> &CandleDevice {
        self.device.candle()
    }

    fn failed(&self, source: candle_core::Error) -> Error {
        Error::Compute { device: self.device.name().to_owned(), source }
    }
}

/// Returns how many bytes the tensors of a specification take once they are loaded.
pub(super) fn weight_bytes(spec: &ModelSpec, weights: &Weights, device: &CandleDevice) -> u64 {
    let bytes = |used: &TensorUse<'_>| {
        let Some(info) = weights.info(&used.tensor.name) else { return 0 };
        let size = used.size_in(&info.shape);
        let is_matrix = used.width.is_some() && !used.is_looked_up && !used.is_of_head;
        loaded_bytes(info, size, is_matrix, device)
    };
    spec.distinct_tensors().iter().map(bytes).sum()
}

/// Returns how many bytes so many numbers of a tensor take once they are loaded: those of a matrix as they are stored,
/// all else as `f32`.
fn loaded_bytes(
    info: &TensorInfo,
    (rows, numbers): (usize, u64),
    is_matrix: bool,
    device: &CandleDevice,
) -> u64 {
    match info.kind {
        _ if !is_matrix => numbers.saturating_mul(4),
        WeightKind::F16 | WeightKind::BF16 => info.bytes_of(numbers),
        kind if candle_packs(kind) => info.bytes_of(numbers) + packed_bytes(numbers, device),
        kind if kind.is_quantized() => {
            let cols = numbers as usize / rows.max(1);
            let packed = kind.to_kernels().and_then(|kind| Packed::bytes_of(kind, rows, cols));
            packed.map_or(numbers.saturating_mul(4), |bytes| bytes as u64)
        }
        _ => numbers.saturating_mul(4),
    }
}

/// Whether candle multiplies with blocks of a kind.
fn candle_packs(kind: WeightKind) -> bool {
    kind.is_quantized() && kind.to_ggml().is_some()
}

/// Returns how many bytes candle takes for its own packed copy of a quantized matrix of that many numbers.
///
/// It makes one, at the first use, where the processor has AVX-512 VNNI: up to a byte and a sixteenth a number.
fn packed_bytes(numbers: u64, device: &CandleDevice) -> u64 {
    if matches!(device, CandleDevice::Cpu) && has_vnni() { numbers + numbers / 16 } else { 0 }
}

#[cfg(target_arch = "x86_64")]
fn has_vnni() -> bool {
    std::arch::is_x86_feature_detected!("avx512vnni")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_vnni() -> bool {
    false
}
