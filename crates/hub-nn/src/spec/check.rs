use std::collections::{HashMap, HashSet};

use super::{
    Activation, AltUpSpec, AttentionSpec, ConvSpec, ConvolvedSpec, ExpertSpec, ExpertsSpec, Gating,
    GroupsSpec, Head, LatentSpec, LaurelSpec, LayerSpec, LinearSpec, Mask, Mixer, Mlp, ModelSpec,
    PerLayerEmbedding, QueryTemperature, RecurrentSpec, RopeSpec, RoutingSpec, Rows, Rule, SharedSpec,
    ShortConvSpec, SpecError, StreamsSpec, TensorUse,
};

/// The most layers, and the largest width, a specification may have.
///
/// Far above any real model: they keep absurd numbers of a hostile file from turning into absurd work.
const MAX_LAYERS: usize = 4_096;
const MAX_WIDTH: usize = 1 << 24;
const MAX_EXPERTS: usize = 4_096;
/// The most residual streams; released models have 4.
const MAX_STREAMS: usize = 64;
/// The most rows a convolution sees; released models have 3 or 4.
const MAX_KERNEL: usize = 64;

impl ModelSpec {
    /// Checks that the numbers of the specification agree with each other.
    ///
    /// # Errors
    /// [`SpecError::Inconsistent`] naming the first rule that is broken.
    pub fn check(&self) -> Result<(), SpecError> {
        rule(
            "widths are positive and sane",
            sane(&[self.hidden_size, self.vocab_size, self.context_tokens]),
            || {
                format!(
                    "hidden size {}, vocabulary {}, context {}",
                    self.hidden_size, self.vocab_size, self.context_tokens
                )
            },
        )?;
        let layers = self.layers.len();
        rule("there is at least one layer", (1..=MAX_LAYERS).contains(&layers), || {
            format!("{layers} layers")
        })?;
        for (index, layer) in self.layers.iter().enumerate() {
            layer.check(self.hidden_size, index)?;
            self.check_keeper(index)?;
            let sees_before = self.mask == Mask::Causal || layer.mixer.attention().is_some();
            rule("only decoders have mixers other than attention", sees_before, || format!("layer {index}"))?;
        }
        if let Some(positions) = &self.embedding.positions {
            let enough = positions.count >= self.context_tokens.saturating_add(positions.offset);
            rule("every position has a learned row", enough, || {
                format!(
                    "{} rows, offset {}, context {}",
                    positions.count, positions.offset, self.context_tokens
                )
            })?;
        }
        if let Some(PerLayerEmbedding { width: part, vocab_size, other_token, projection, .. }) =
            &self.embedding.per_layer
        {
            let is_known = other_token.is_none_or(|token| (token as usize) < *vocab_size);
            rule("tokens count as one that is known", is_known, || {
                format!("{other_token:?} of {vocab_size}")
            })?;
            rule("the second embedding has a width", sane(&[*part, *vocab_size]), || format!("{part}"))?;
            width("second embedding", projection, self.hidden_size, part.saturating_mul(layers))?;
        }
        self.check_streams()?;
        let parts = self.layers.iter().filter_map(|layer| Some(layer.per_layer.as_ref()?.gate.outputs));
        let part = self.embedding.per_layer.as_ref().map(|per_layer| per_layer.width);
        let fits = parts.clone().all(|outputs| Some(outputs) == part);
        rule("layers take parts of the second embedding's width", fits, || format!("{part:?}"))?;
        match &self.head {
            Head::None => Ok(()),
            Head::Logits { linear, .. } => width("head", linear, self.hidden_size, self.vocab_size),
            Head::Classifier(pooled) | Head::Vector(pooled) => pooled.check(self.hidden_size, layers),
            Head::Beside(linears) => linears
                .iter()
                .try_for_each(|linear| width("matrix beside rows", linear, self.hidden_size, linear.outputs)),
        }
    }

    /// Checks that every layer goes about with the streams that there are.
    fn check_streams(&self) -> Result<(), SpecError> {
        let count = self.streams.as_ref().map(StreamsSpec::count);
        for (index, layer) in self.layers.iter().enumerate() {
            let own = layer.altup.as_ref().map(|altup| altup.router.outputs);
            rule("layers go about with the streams that there are", own == count, || {
                format!("layer {index}: {own:?} of {count:?}")
            })?;
        }
        let Some(StreamsSpec { projections, unembed_projections, least_square }) = &self.streams else {
            return Ok(());
        };
        let numbers = || format!("{} and {}, {least_square}", projections.len(), unembed_projections.len());
        let fits = (1..MAX_STREAMS).contains(&projections.len());
        let fits = fits && projections.len() == unembed_projections.len();
        rule("streams end as they begin", fits, numbers)?;
        let is_positive = least_square.is_finite() && *least_square > 0.0;
        rule("streams are scaled by positive numbers", is_positive, numbers)?;
        projections
            .iter()
            .chain(unembed_projections)
            .try_for_each(|linear| width("stream", linear, self.hidden_size, self.hidden_size))
    }

    /// Checks that a layer whose keys and values are another's finds them there.
    fn check_keeper(&self, layer: usize) -> Result<(), SpecError> {
        let (mixer, keeper) = (&self.layers[layer].mixer, self.layers[layer].mixer.keeper(layer));
        if keeper == layer {
            return Ok(());
        }
        let shape = |attention: &AttentionSpec| (attention.kv_heads, attention.head_dim, attention.window);
        let owner = self.layers[..layer].get(keeper).and_then(|layer| layer.mixer.attention());
        let owner = owner.filter(|owner| owner.own_kv().is_some());
        let fits = owner.map(shape) == mixer.attention().map(shape) && self.mask == Mask::Causal;
        rule("keys and values are those of a layer before that caches alike", fits, || {
            format!("layer {layer} reads those of layer {keeper}")
        })
    }

    /// Checks the tensors of the files against the specification: all that is needed is there and has its shape, and
    /// all that is there is used or listed as left out.
    ///
    /// # Errors
    /// [`SpecError::MissingTensor`], [`SpecError::Shape`] or [`SpecError::UnknownTensor`], naming the first in the
    /// order of use, or of the files.
    pub fn check_tensors<'a>(
        &self,
        tensors: impl IntoIterator<Item = (&'a str, &'a [usize])>,
    ) -> Result<(), SpecError> {
        let in_order: Vec<(&str, &[usize])> = tensors.into_iter().collect();
        let shapes: HashMap<&str, &[usize]> = in_order.iter().copied().collect();
        let uses = self.tensors();
        for used in &uses {
            let name = || used.tensor.name.clone();
            let Some(shape) = shapes.get(used.tensor.name.as_str()) else {
                return Err(SpecError::MissingTensor { name: name(), family: self.family });
            };
            if !used.fits(shape) {
                let (expected, found) = (used.shape(), shape.to_vec());
                return Err(SpecError::Shape { name: name(), expected, found });
            }
        }
        self.check_parts(&uses, &shapes)?;
        let used = uses.iter().map(|used| used.tensor.name.as_str());
        let known: HashSet<&str> = used.chain(self.left_out.iter().map(|left| left.name.as_str())).collect();
        match in_order.into_iter().find(|(name, _)| !known.contains(name)) {
            Some((name, _)) => Err(SpecError::UnknownTensor { name: name.to_owned(), family: self.family }),
            None => Ok(()),
        }
    }

    /// Checks that where parts of a tensor are used, together they are all of it: a number too small would take wrong
    /// ones. What judges takes two rows of many.
    fn check_parts(&self, uses: &[TensorUse<'_>], shapes: &HashMap<&str, &[usize]>) -> Result<(), SpecError> {
        let mut parts: HashMap<&str, HashSet<Rows>> = HashMap::new();
        let mut whole: HashSet<&str> = HashSet::new();
        for used in uses {
            match used.tensor.rows {
                Some(rows) => drop(parts.entry(&used.tensor.name).or_default().insert(rows)),
                None => drop(whole.insert(&used.tensor.name)),
            }
        }
        let is_of_head = |name: &str| {
            let layers = self.head.pooled().into_iter().flat_map(|pooled| &pooled.layers);
            layers.into_iter().any(|layer| layer.linear.weight.name == name)
        };
        for used in uses {
            let name = used.tensor.name.as_str();
            // Once for each tensor.
            let Some(rows) = parts.remove(name).filter(|_| !is_of_head(name)) else { continue };
            let shape = shapes.get(name).copied().unwrap_or_default();
            let (found, sum) = (used.rows_in(shape), rows.iter().map(|rows| rows.total()).sum());
            if found != sum && !whole.contains(name) {
                return Err(SpecError::Parts { name: name.to_owned(), used: sum, found });
            }
        }
        Ok(())
    }

    /// Tells whether sequences keep state between steps.
    pub fn keeps_state(&self) -> bool {
        self.mask == Mask::Causal
    }
}

impl LayerSpec {
    fn check(&self, hidden_size: usize, index: usize) -> Result<(), SpecError> {
        self.mixer.check(hidden_size, index)?;
        let norms =
            [&self.mixer_norms.after, &self.mlp_norms.before, &self.mlp_norms.after, &self.mlp_norms.last];
        let fits = !self.is_parallel || norms.iter().all(|norm| norm.is_none());
        rule("an MLP beside the mixer has no norms of its own", fits, || format!("layer {index}"))?;
        if let Some(laurel) = &self.laurel {
            let fits = !self.is_parallel && self.mixer_norms.last.is_none();
            rule("a path beside the mixer leads to the MLP", fits, || format!("layer {index}"))?;
            laurel.check(hidden_size, index)?;
        }
        if let Some(altup) = &self.altup {
            let fits = !self.is_parallel && self.output_scale.is_none();
            rule("a layer of several streams corrects what its MLP returns", fits, || {
                format!("layer {index}")
            })?;
            altup.check(hidden_size, index)?;
        }
        if let Some(per_layer) = &self.per_layer {
            let inner = per_layer.gate.outputs;
            width("gate of the second embedding", &per_layer.gate, hidden_size, inner)?;
            width("projection of the second embedding", &per_layer.projection, inner, hidden_size)?;
            per_layer.activation.check(false, index)?;
        }
        self.mlp.check(hidden_size, index)
    }
}

impl LaurelSpec {
    fn check(&self, hidden_size: usize, index: usize) -> Result<(), SpecError> {
        let rank = self.left.outputs;
        width("path beside the mixer", &self.left, hidden_size, rank)?;
        width("path beside the mixer", &self.right, rank, hidden_size)?;
        rule("the scale of a sum is a number", self.scale.is_finite(), || {
            format!("layer {index}: {}", self.scale)
        })
    }
}

impl AltUpSpec {
    fn check(&self, hidden_size: usize, index: usize) -> Result<(), SpecError> {
        width("router of streams", &self.router, hidden_size, self.router.outputs)?;
        let scale = self.router_scale;
        rule("the scale of a router is a number", scale.is_finite(), || format!("layer {index}: {scale}"))
    }
}

impl Mlp {
    fn check(&self, hidden_size: usize, index: usize) -> Result<(), SpecError> {
        if let Self::Gated { sparsity: Some(sparsity), .. } = self {
            let numbers = || format!("layer {index}: {sparsity}");
            rule("the sparsity of gates is a number", sparsity.is_finite(), numbers)?;
        }
        let (ups, down, activation) = match self {
            Self::Gated { gate, up, down, activation, .. } => (vec![gate, up], down, activation),
            Self::Plain { up, down, activation } => (vec![up], down, activation),
            Self::Experts(experts) => return experts.check(hidden_size, index),
        };
        activation.check(matches!(self, Self::Gated { .. }), index)?;
        rule("the inner width is positive and sane", sane(&[down.inputs]), || {
            format!("layer {index}: {}", down.inputs)
        })?;
        for up in ups {
            width("MLP", up, hidden_size, down.inputs)?;
        }
        width("MLP", down, down.inputs, hidden_size)
    }
}

impl ExpertsSpec {
    fn check(&self, hidden_size: usize, layer: usize) -> Result<(), SpecError> {
        let (count, RoutingSpec { chosen, groups, scale, .. }) = (self.experts.len(), &self.routing);
        let numbers = || {
            let groups = groups.map(|groups| format!(", {} of {} groups", groups.chosen, groups.count));
            let groups = groups.unwrap_or_default();
            format!("layer {layer}: {chosen} of {count} experts{groups}, scale {scale}")
        };
        rule("some of the experts are chosen", (1..=count).contains(chosen), numbers)?;
        rule("there are no more experts than can be", count <= MAX_EXPERTS, numbers)?;
        rule("the scale of experts is a number", scale.is_finite(), numbers)?;
        if let Some(GroupsSpec { count: all, chosen: some, best }) = *groups {
            let size = count.checked_div(all).unwrap_or(0);
            let fits =
                size > 0 && size * all == count && (1..=all).contains(&some) && (1..=size).contains(&best);
            rule("groups divide the experts", fits && *chosen <= some * size, numbers)?;
        }
        self.activation.check(true, layer)?;
        width("router", &self.router, hidden_size, count)?;
        let inner = self.experts.first().map_or(0, |expert| expert.down.inputs);
        rule("the inner width is positive and sane", sane(&[inner]), || format!("layer {layer}: {inner}"))?;
        for ExpertSpec { gate, up, down } in &self.experts {
            width("expert", gate, hidden_size, inner)?;
            width("expert", up, hidden_size, inner)?;
            width("expert", down, inner, hidden_size)?;
            let alike = |one: &LinearSpec, first: &LinearSpec| one.bias.is_some() == first.bias.is_some();
            let is_alike = self.experts.first().is_none_or(|first| {
                alike(gate, &first.gate) && alike(up, &first.up) && alike(down, &first.down)
            });
            rule("experts have the same parts", is_alike, numbers)?;
        }
        let has_both =
            self.apart.is_none() || self.shared.as_ref().is_some_and(|shared| shared.gate.is_none());
        rule("experts with norms of their own stand beside an MLP", has_both, numbers)?;
        let Some(SharedSpec { mlp, gate }) = &self.shared else { return Ok(()) };
        let is_plain = !matches!(**mlp, Mlp::Experts(_));
        rule("what experts share is no mixture itself", is_plain, numbers)?;
        mlp.check(hidden_size, layer)?;
        gate.as_ref().map_or(Ok(()), |gate| width("gate of what experts share", gate, hidden_size, 1))
    }
}

impl Mixer {
    fn check(&self, hidden_size: usize, layer: usize) -> Result<(), SpecError> {
        match self {
            Self::Attention(attention) => attention.check(hidden_size, layer),
            Self::Latent(latent) => latent.check(hidden_size, layer),
            Self::Recurrent(recurrent) => recurrent.check(hidden_size, layer),
            Self::ShortConv(conv) => conv.check(hidden_size, layer),
        }
    }
}

impl LatentSpec {
    fn check(&self, hidden_size: usize, layer: usize) -> Result<(), SpecError> {
        let Self { heads, rank, nope_dim, rope_dim, value_dim, scale, .. } = self;
        let numbers = || {
            format!(
                "layer {layer}: {heads} heads, rank {rank}, widths {nope_dim}, {rope_dim} and {value_dim}"
            )
        };
        let widths = [*heads, *rank, *nope_dim, *rope_dim, *value_dim, self.queries()];
        rule("there are heads with a width", sane(&widths), numbers)?;
        rule("what is read has a sane width", sane(&[heads.saturating_mul(*rank)]), numbers)?;
        rule("the scale of scores is a positive number", scale.is_finite() && *scale > 0.0, numbers)?;
        let has_all = self.key.len() == *heads && self.value.len() == *heads;
        rule("every head has its matrices", has_all, numbers)?;
        self.rope.check(*rope_dim, layer)?;
        rule("all of the rotated part is rotated", self.rope.dims == *rope_dim, numbers)?;
        let inputs = match &self.query_latent {
            Some((linear, _)) => {
                width("latent query", linear, hidden_size, linear.outputs)?;
                linear.outputs
            }
            None => hidden_size,
        };
        width("query", &self.query, inputs, self.queries())?;
        width("latent row", &self.latent, hidden_size, *rank)?;
        width("rotated key", &self.key_rope, hidden_size, *rope_dim)?;
        width("output", &self.output, heads.saturating_mul(*value_dim), hidden_size)
    }
}

impl RecurrentSpec {
    fn check(&self, hidden_size: usize, layer: usize) -> Result<(), SpecError> {
        let Self { heads, key_heads, key_dim, value_dim, gating, step_limits, .. } = self;
        let numbers = || {
            format!("layer {layer}: {heads} heads, {key_heads} key heads, widths {key_dim} and {value_dim}")
        };
        rule("there are heads with a width", sane(&[*heads, *key_heads, *key_dim, *value_dim]), numbers)?;
        rule("key heads divide the heads", heads.is_multiple_of(*key_heads), numbers)?;
        let (keys, inner) = (key_heads.saturating_mul(*key_dim), self.inner());
        rule("widths are positive and sane", sane(&[keys, inner, heads.saturating_mul(*key_dim)]), numbers)?;
        for (ConvolvedSpec { linear, conv }, outputs) in self.convolved().into_iter().zip([keys, keys, inner])
        {
            width("convolved part", linear, hidden_size, outputs)?;
            conv.check(outputs, layer)?;
        }
        let kernels = self.convolved().map(|part| part.conv.kernel);
        rule("convolutions see the same rows", kernels.iter().all(|kernel| *kernel == kernels[0]), numbers)?;
        width("gate", &self.gate, hidden_size, inner)?;
        width("step", &self.step, hidden_size, *heads)?;
        if let Rule::Delta { beta } = &self.rule {
            width("beta", beta, hidden_size, *heads)?;
        }
        let fits = match gating {
            Gating::NormFirst => true,
            Gating::GateFirst { groups } => *groups > 0 && inner.is_multiple_of(*groups),
        };
        rule("groups of the norm divide the row", fits, numbers)?;
        let is_range = step_limits.is_none_or(|(low, high)| low >= 0.0 && high >= low);
        rule("limits of the step are a range", is_range, || format!("layer {layer}: {step_limits:?}"))?;
        width("output", &self.output, inner, hidden_size)
    }
}

impl ShortConvSpec {
    fn check(&self, hidden_size: usize, layer: usize) -> Result<(), SpecError> {
        for linear in [&self.before, &self.after, &self.value, &self.output] {
            width("convolution", linear, hidden_size, hidden_size)?;
        }
        self.conv.check(hidden_size, layer)
    }
}

impl ConvSpec {
    fn check(&self, channels: usize, layer: usize) -> Result<(), SpecError> {
        let numbers = || format!("layer {layer}: {} channels, {} rows", self.channels, self.kernel);
        rule("a convolution has the channels of its input", self.channels == channels, numbers)?;
        rule("a convolution sees a few rows", (2..=MAX_KERNEL).contains(&self.kernel), numbers)
    }
}

impl Activation {
    pub(super) fn check(self, is_gated: bool, layer: usize) -> Result<(), SpecError> {
        let Self::ClampedSwish { slope, limit } = self else { return Ok(()) };
        let fits = is_gated && slope.is_finite() && limit.is_finite() && limit > 0.0;
        rule("limits of a gate are positive numbers", fits, || format!("layer {layer}: {slope}, {limit}"))
    }
}

impl AttentionSpec {
    fn check(&self, hidden_size: usize, layer: usize) -> Result<(), SpecError> {
        let numbers = || {
            format!(
                "layer {layer}: {} heads, {} key heads, width {}",
                self.heads, self.kv_heads, self.head_dim
            )
        };
        rule("there are heads with a width", sane(&[self.heads, self.kv_heads, self.head_dim]), numbers)?;
        rule("key heads divide the heads", self.heads.is_multiple_of(self.kv_heads), numbers)?;
        rule("a window holds at least one row", self.window != Some(0), numbers)?;
        rule(
            "the scale of scores is a positive number",
            self.scale.is_finite() && self.scale > 0.0,
            numbers,
        )?;
        let is_sane = |temperature: &QueryTemperature| temperature.beta.is_finite() && temperature.every > 0;
        rule(
            "the temperature of queries is a number",
            self.temperature.as_ref().is_none_or(is_sane),
            numbers,
        )?;
        if let Some(rope) = &self.rope {
            rope.check(self.head_dim, layer)?;
        }
        let (queries, keys) =
            (self.heads.saturating_mul(self.head_dim), self.kv_heads.saturating_mul(self.head_dim));
        width("query", &self.query, hidden_size, queries)?;
        if let Some(own) = self.own_kv() {
            width("key", &own.key, hidden_size, keys)?;
            width("value", &own.value, hidden_size, keys)?;
        }
        if let Some(gate) = &self.gate {
            width("gate of attention", gate, hidden_size, queries)?;
        }
        width("output", &self.output, queries, hidden_size)
    }
}

impl RopeSpec {
    fn check(&self, head_dim: usize, layer: usize) -> Result<(), SpecError> {
        let numbers = || format!("layer {layer}: {} of {head_dim} rotated, base {}", self.dims, self.base);
        let fits = self.dims > 0 && self.dims.is_multiple_of(2) && self.dims <= head_dim;
        rule("an even part of a head is rotated", fits, numbers)?;
        rule("the base of the angles is over one", self.base.is_finite() && self.base > 1.0, numbers)?;
        rule("every pair has its divisor", self.has_all_factors(), numbers)?;
        rule("scaling factors are positive numbers", self.has_sane_scaling(), numbers)
    }
}

pub(super) fn width(
    what: &'static str,
    linear: &LinearSpec,
    inputs: usize,
    outputs: usize,
) -> Result<(), SpecError> {
    let is_sane = sane(&[inputs, outputs]);
    rule("widths are positive and sane", is_sane, || format!("{what} of {outputs} × {inputs}"))?;
    let fits = linear.inputs == inputs && linear.outputs == outputs;
    rule("matrices fit the widths around them", fits, || {
        format!(
            "{what} `{}` is {} × {}, not {outputs} × {inputs}",
            linear.weight.name, linear.outputs, linear.inputs
        )
    })
}

fn sane(widths: &[usize]) -> bool {
    widths.iter().all(|width| (1..=MAX_WIDTH).contains(width))
}

pub(super) fn rule(
    what: &'static str,
    holds: bool,
    details: impl FnOnce() -> String,
) -> Result<(), SpecError> {
    if holds { Ok(()) } else { Err(SpecError::Inconsistent { what, details: details() }) }
}
