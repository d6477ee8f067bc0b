use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hub_base::{CancelToken, Progress, ProgressSink, Reservation};
use hub_kernels::{Attention, Conv, Cpu, Function, Kind, Packed, Scan, TILE, quantize_alone};

use super::{
    Layer, Linear, Model, ModelHead, Norm, Table, Widths,
    altup::{AltUp, Laurel, Streams},
    latent::Latent,
    layer::{self, Attend, Experts, Mixer, Stack},
    packing::{Packing, Packs, turned_kind},
    per_layer::{PerLayer, PerLayerTable},
    pooled::{Pooled, PooledLayer},
    recurrent::{Convolved, Recurrent, ShortConv},
};
use crate::{
    Device, Error,
    executor::{rope::Ropes, routing::Routing},
    spec::{
        self, Activation, AltUpSpec, AttentionSpec, ConvSpec, ConvolvedSpec, ExpertSpec, ExpertsSpec, Head,
        KeyForm, KeyOrder, LatentSpec, LaurelSpec, LayerSpec, LinearSpec, Mask, ModelSpec, NormSpec,
        PerLayerEmbedding, PerLayerSpec, PooledSpec, RateForm, RecurrentSpec, RopeSpec, Rule, SharedSpec,
        StreamsSpec, TensorRef,
    },
    weights::{PackedFile, PackedPlace, RawTensor, Stamp, Weights},
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

    fn mixer(&mut self, mixer: &spec::Mixer, mask: Mask) -> Result<Mixer, Error> {
        Ok(match mixer {
            spec::Mixer::Attention(spec) => Mixer::Attention(Box::new(self.attention(spec, mask)?)),
            spec::Mixer::Latent(spec) => Mixer::Latent(Box::new(self.latent(spec)?)),
            spec::Mixer::Recurrent(spec) => Mixer::Recurrent(Box::new(self.recurrent(spec)?)),
            spec::Mixer::ShortConv(spec) => Mixer::ShortConv(Box::new(ShortConv {
                before: self.linear(&spec.before)?,
                after: self.linear(&spec.after)?,
                value: self.linear(&spec.value)?,
                conv: self.conv(&spec.conv)?,
                output: self.linear(&spec.output)?,
            })),
        })
    }

    fn attention(&mut self, spec: &AttentionSpec, mask: Mask) -> Result<Attend, Error> {
        let sinks = spec.sinks.as_ref().map(|sinks| self.numbers(sinks)).transpose()?;
        Ok(Attend {
            attention: attention(spec, mask, sinks.unwrap_or_default()),
            query: self.linear(&spec.query)?,
            kv: spec.own_kv().map(|kv| self.own_kv(kv, spec.head_dim)).transpose()?,
            gate: spec.gate.as_ref().map(|gate| self.linear(gate)).transpose()?,
            output: self.linear(&spec.output)?,
            query_norm: self.maybe_norm(spec.query_norm.as_ref())?,
            norm_scope: spec.norm_scope,
            temperature: spec.temperature,
            rope: self.rope(spec.rope.as_ref())?,
        })
    }

    fn own_kv(&mut self, spec: &spec::OwnKv, head_dim: usize) -> Result<layer::OwnKv, Error> {
        let unit = |eps| Norm {
            kind: spec::NormKind::Rms,
            eps,
            weight: vec![1.0; head_dim],
            bias: vec![0.0; head_dim],
        };
        Ok(layer::OwnKv {
            key: self.linear(&spec.key)?,
            value: self.linear(&spec.value)?,
            key_norm: self.maybe_norm(spec.key_norm.as_ref())?,
            value_norm: spec.value_norm_eps.map(unit),
        })
    }

    fn latent(&mut self, spec: &LatentSpec) -> Result<Latent, Error> {
        let query_latent = match &spec.query_latent {
            Some((linear, norm)) => Some((self.linear(linear)?, self.norm(norm)?)),
            None => None,
        };
        let linear = |tensor: &TensorRef, inputs, outputs| LinearSpec {
            weight: tensor.clone(),
            bias: None,
            inputs,
            outputs,
        };
        let &LatentSpec { heads, rank, nope_dim, rope_dim, value_dim, scale, .. } = spec;
        let keys: Vec<_> = spec.key.iter().map(|tensor| linear(tensor, nope_dim, rank)).collect();
        let values: Vec<_> = spec.value.iter().map(|tensor| linear(tensor, rank, value_dim)).collect();
        Ok(Latent {
            attention: Attention {
                heads,
                kv_heads: 1,
                head_dim: rank + rope_dim,
                value_dim: rank,
                scale,
                soft_cap: None,
                window: None,
                is_causal: true,
                sinks: Vec::new(),
            },
            nope_dim,
            value_dim,
            query_latent,
            query: self.linear(&spec.query)?,
            latent: self.linear(&spec.latent)?,
            latent_norm: self.norm(&spec.latent_norm)?,
            key_rope: self.linear(&spec.key_rope)?,
            key: match spec.key_form {
                KeyForm::Key => self.turned(&keys)?,
                KeyForm::Query => self.stack(&keys, |key| key)?,
            },
            value: self.stack(&values, |value| value)?,
            output: self.linear(&spec.output)?,
            rope: self.rope(Some(&spec.rope))?.unwrap_or_default(),
        })
    }

    /// Packs matrices as one that lie in the files turned over, `[inputs, outputs]`.
    fn turned(&mut self, matrices: &[LinearSpec]) -> Result<Stack, Error> {
        let Some(first) = matrices.first() else { return Err(missing("heads")) };
        let (rows, cols) = (first.outputs, first.inputs);
        let name = first.weight.name.as_str();
        let kind = turned_kind(self.weights.info(name).ok_or_else(|| missing(name))?);
        let each = rows.next_multiple_of(TILE);
        let number_bytes = kind.block_bytes();
        let mut bytes = vec![0; matrices.len() * each * cols * number_bytes];
        for (linear, out) in matrices.iter().zip(bytes.chunks_exact_mut(each * cols * number_bytes)) {
            self.check_cancelled()?;
            let raw = self.weights.read_part(&linear.weight)?;
            self.report(raw.bytes.len());
            // Of blocks only what they mean can be turned over.
            let raw = match raw.kind.to_kernels() {
                Some(own) if own == kind => raw.bytes,
                _ => raw.to_f32()?.iter().flat_map(|number| number.to_le_bytes()).collect(),
            };
            for (place, number) in raw.chunks_exact(number_bytes).enumerate() {
                let (input, output) = (place / rows, place % rows);
                let at = (output * cols + input) * number_bytes;
                out[at..at + number_bytes].copy_from_slice(number);
            }
        }
        let packed = Packed::pack(kind, matrices.len() * each, cols, &bytes)?;
        Ok(Stack { matrix: Arc::new(packed), rows, bias: None })
    }

    fn recurrent(&mut self, spec: &RecurrentSpec) -> Result<Recurrent, Error> {
        let (beta, skip) = match &spec.rule {
            Rule::Delta { beta } => (Some(self.linear(beta)?), Vec::new()),
            Rule::StateSpace { skip } => (None, self.numbers(skip)?),
        };
        let &RecurrentSpec { heads, key_heads, key_dim, value_dim, gating, step_limits, .. } = spec;
        let is_tiled = spec.key_order == KeyOrder::Tiled;
        let mut rate = self.numbers(&spec.rate)?;
        if spec.rate_form == RateForm::Log {
            rate.iter_mut().for_each(|rate| *rate = -rate.exp());
        }
        Ok(Recurrent {
            scan: Scan { heads, key_heads, is_tiled, key_dim, value_dim, is_delta: beta.is_some(), skip },
            query: self.convolved(&spec.query)?,
            key: self.convolved(&spec.key)?,
            value: self.convolved(&spec.value)?,
            gate: self.linear(&spec.gate)?,
            step: self.linear(&spec.step)?,
            step_bias: self.numbers(&spec.step_bias)?,
            step_limits,
            rate,
            beta,
            norm: self.norm(&spec.norm)?,
            gating,
            output: self.linear(&spec.output)?,
        })
    }

    fn convolved(&mut self, spec: &ConvolvedSpec) -> Result<Convolved, Error> {
        Ok(Convolved { linear: self.linear(&spec.linear)?, conv: self.conv(&spec.conv)? })
    }

    fn conv(&self, spec: &ConvSpec) -> Result<Conv, Error> {
        let bias = spec.bias.as_ref().map(|bias| self.numbers(bias)).transpose()?;
        Ok(Conv::new(&self.numbers(&spec.weight)?, bias.unwrap_or_default(), spec.kernel))
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

    /// Packs one matrix of each expert, or of each head, as one: they lie in one tensor, or in one each.
    fn stack<T: Sync>(
        &mut self,
        experts: &[T],
        part: impl Fn(&T) -> &LinearSpec + Sync,
    ) -> Result<Stack, Error> {
        let Some(first) = experts.first().map(&part) else { return Err(missing("experts")) };
        let (name, rows, cols) = (first.weight.name.as_str(), first.outputs, first.inputs);
        let packs = self.packing.kind(name, self.weights.info(name).ok_or_else(|| missing(name))?);
        for tensor in experts.iter().map(|expert| &part(expert).weight) {
            let info = self.weights.info(&tensor.name).ok_or_else(|| missing(&tensor.name))?;
            if self.packing.kind(&tensor.name, info).kind() != packs.kind() {
                return Err(Error::WeightKind { name: tensor.name.clone(), kind: info.kind.as_str() });
            }
        }
        let each = rows.next_multiple_of(TILE);
        let shape = (each * experts.len(), cols);
        let start = first.weight.rows.map_or(0, |rows| rows.start);
        let key = TensorRef::new(format!("{name} from {start}, {} of them", experts.len()));
        let kept = self.kept_matrix(&key, packs.kind(), shape)?;
        let read = |range: Range<usize>, out: &mut [u8]| {
            let row_bytes = out.len() / range.len().max(1);
            let mut at = range.start;
            while at < range.end {
                let (expert, row) = (at / each, at % each);
                let end = range.end.min((expert + 1) * each);
                let out = &mut out[(at - range.start) * row_bytes..(end - range.start) * row_bytes];
                let (own, padding) = out.split_at_mut((rows.saturating_sub(row)).min(end - at) * row_bytes);
                let count = own.len() / row_bytes.max(1);
                self.read_rows(&part(&experts[expert]).weight, row..row + count, &packs, own)?;
                padding.fill(0);
                at = end;
            }
            Ok::<_, Error>(())
        };
        let packed = match kept {
            Some(packed) => packed,
            None => Packed::pack_with(packs.kind(), shape.0, cols, self.cpu, read)?,
        };
        let mut bias = first.bias.is_some().then(Vec::new);
        for expert in experts {
            if let (Some(all), Some(bias)) = (&mut bias, &part(expert).bias) {
                all.extend(self.numbers(bias)?);
            }
        }
        let matrix = Arc::new(packed);
        self.matrices.insert(key, Arc::clone(&matrix));
        Ok(Stack { matrix, rows, bias })
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

    fn table(&self, tensor: &TensorRef, width: usize) -> Result<Table, Error> {
        Ok(Table { width, values: self.numbers(tensor)? })
    }

    fn linear(&mut self, linear: &LinearSpec) -> Result<Linear, Error> {
        let matrix = self.matrix(&linear.weight)?;
        let bias = linear.bias.as_ref().map(|bias| self.numbers(bias)).transpose()?;
        Ok(Linear { matrix, bias })
    }

    fn matrix(&mut self, tensor: &TensorRef) -> Result<Arc<Packed>, Error> {
        if let Some(known) = self.matrices.get(tensor) {
            return Ok(Arc::clone(known));
        }
        let name = tensor.name.as_str();
        let info = self.weights.info(name).ok_or_else(|| missing(name))?;
        let (rows, cols) = self.weights.part_shape(tensor)?;
        let packs = self.packing.kind(name, info);
        let packed = match self.kept_matrix(tensor, packs.kind(), (rows, cols))? {
            Some(packed) => {
                // Progress counts bytes of the model's own files.
                self.report(info.bytes_of((rows * cols) as u64) as usize);
                packed
            }
            None => Packed::pack_with(packs.kind(), rows, cols, self.cpu, |part, out| {
                self.read_rows(tensor, part, &packs, out)
            })?,
        };
        let packed = Arc::new(packed);
        self.matrices.insert(tensor.clone(), Arc::clone(&packed));
        Ok(packed)
    }

    /// Reads some of a tensor's rows as they are packed.
    fn read_rows(
        &self,
        tensor: &TensorRef,
        rows: Range<usize>,
        packs: &Packs,
        out: &mut [u8],
    ) -> Result<(), Error> {
        self.check_cancelled()?;
        if let Packs::AsStored(_) = packs {
            self.weights.read_part_rows_into(tensor, rows, out)?;
            self.report(out.len());
            return Ok(());
        }
        let numbers = self.to_numbers(tensor, &self.weights.read_part_rows(tensor, rows)?)?;
        if let Packs::Rounded(kind) = packs {
            return Ok(quantize_alone(*kind, &numbers, out, self.cpu.isa())?);
        }
        for (out, number) in out.as_chunks_mut().0.iter_mut().zip(numbers) {
            *out = number.to_le_bytes();
        }
        Ok(())
    }

    /// Reads a matrix that an earlier load packed, if it did. A file that lacks one or cannot be read is given up, and
    /// written again at the end.
    fn kept_matrix(
        &mut self,
        tensor: &TensorRef,
        kind: Kind,
        shape: (usize, usize),
    ) -> Result<Option<Packed>, Error> {
        let Some(Kept { place, file: Some(file), .. }) = &self.kept else { return Ok(None) };
        let found = match file.read(tensor, kind, shape, self.cpu, || self.check_cancelled()) {
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => {
                tracing::warn!(path = %place.path().display(), %error, "packed weights are packed again");
                None
            }
            Ok(found) => found,
        };
        if found.is_none()
            && let Some(kept) = &mut self.kept
        {
            kept.file = None;
        }
        Ok(found)
    }

    /// Reads a small tensor, or a table that rows are looked up in, into `f32`.
    fn numbers(&self, tensor: &TensorRef) -> Result<Vec<f32>, Error> {
        self.check_cancelled()?;
        self.to_numbers(tensor, &self.weights.read_part(tensor)?)
    }

    fn to_numbers(&self, tensor: &TensorRef, raw: &RawTensor) -> Result<Vec<f32>, Error> {
        if !(raw.kind.is_float() || raw.kind.is_quantized()) {
            return Err(Error::WeightKind { name: tensor.name.clone(), kind: raw.kind.as_str() });
        }
        self.report(raw.bytes.len());
        Ok(raw.to_f32()?)
    }

    fn check_cancelled(&self) -> Result<(), Error> {
        if self.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn report(&self, bytes: usize) {
        let done = self.done_bytes.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        self.progress.report(Progress { stage: "reading weights", done, total: self.total_bytes });
    }
}

fn attention(mixer: &AttentionSpec, mask: Mask, sinks: Vec<f32>) -> Attention {
    Attention {
        heads: mixer.heads,
        kv_heads: mixer.kv_heads,
        head_dim: mixer.head_dim,
        value_dim: mixer.head_dim,
        scale: mixer.scale,
        soft_cap: mixer.soft_cap,
        window: mixer.window,
        is_causal: mask == Mask::Causal,
        sinks,
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

/// Where a model's packed matrices are kept.
struct Kept<'a> {
    place: &'a PackedPlace,
    /// What its files were when the load began.
    stamps: Vec<Stamp>,
    /// What an earlier load wrote of these files.
    file: Option<PackedFile>,
}

impl<'a> Kept<'a> {
    fn of(weights: &'a Weights) -> Option<Self> {
        let place = weights.packed_place()?;
        let stamps = Stamp::of_all(weights.meaning_files())?;
        let file = PackedFile::open(place.path(), &stamps);
        Some(Self { place, stamps, file })
    }
}
