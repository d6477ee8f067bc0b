//! What GGUF metadata says of a model: the keys that families read there, from a specification.

use hub_nn::{
    spec::{
        AttentionSpec, Head, KvSpec, LayerSpec, Mixer, Mlp, ModelSpec, NormKind, RecurrentSpec, RopeScaling,
        RopeSpec, RoutingSpec, Scoring,
    },
    weights::{Metadata, Value},
};

/// Metadata that are being written, under the keys of an architecture.
#[derive(Debug)]
pub(super) struct Written<'a> {
    pub(super) architecture: &'static str,
    pub(super) metadata: &'a mut Metadata,
}

impl Written<'_> {
    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.metadata.insert(format!("{}.{key}", self.architecture), value);
    }

    pub(super) fn size(&mut self, key: &str, value: usize) {
        self.set(key, u32::try_from(value).unwrap_or(u32::MAX));
    }

    /// Writes a number for each layer, or one for all where they are the same.
    fn sizes(&mut self, key: &str, values: impl Iterator<Item = usize>) {
        let values: Vec<usize> = values.collect();
        match values.as_slice() {
            [first, rest @ ..] if rest.iter().all(|value| value == first) => self.size(key, *first),
            values => {
                let values = values.iter().map(|value| i32::try_from(*value).unwrap_or(i32::MAX));
                self.set(key, values.collect::<Vec<_>>());
            }
        }
    }
}

/// Writes the keys that decoders with attention in every layer have in common.
///
/// What a key cannot say is left out; whoever reads the file back sees what is missing.
pub(super) fn plain(spec: &ModelSpec, out: &mut Written<'_>) {
    out.size("block_count", spec.layers.len());
    out.size("context_length", spec.context_tokens);
    out.size("embedding_length", spec.hidden_size);
    out.size("vocab_size", spec.vocab_size);
    mlps(spec, out);
    if let Some(norm) = &spec.final_norm {
        let eps = match norm.kind {
            NormKind::Rms => "attention.layer_norm_rms_epsilon",
            NormKind::Layer => "attention.layer_norm_epsilon",
        };
        out.set(eps, norm.eps);
    }
    let attentions: Vec<_> = attentions(spec).collect();
    if let Some(first) = attentions.first() {
        out.size("attention.head_count", first.heads);
        // Layers with a window may have narrower heads, and layers without attention have none.
        let full = attentions.iter().find(|attention| attention.window.is_none()).unwrap_or(first);
        out.sizes("attention.head_count_kv", spec.layers.iter().map(kv_heads));
        out.size("attention.key_length", full.head_dim);
        out.size("attention.value_length", full.head_dim);
        if let Some(cap) = first.soft_cap {
            out.set("attn_logit_softcapping", cap);
        }
    }
    if let Some(window) = attentions.iter().find_map(|attention| attention.window) {
        out.size("attention.sliding_window", window);
    }
    rotations(&attentions, out);
    if let Head::Logits { soft_cap: Some(cap), .. } = &spec.head {
        out.set("final_logit_softcapping", *cap);
    }
}

/// The same, with which layers see only a window.
pub(super) fn patterned(spec: &ModelSpec, out: &mut Written<'_>) {
    plain(spec, out);
    let windowed: Vec<bool> = attentions(spec).map(|attention| attention.window.is_some()).collect();
    if windowed.contains(&true) {
        out.set("attention.sliding_window_pattern", windowed);
    }
}

/// The same as [`plain`], with what embeddings, scores, residuals and logits are multiplied with.
pub(super) fn scaled(spec: &ModelSpec, out: &mut Written<'_>) {
    plain(spec, out);
    if let Some(attention) = attentions(spec).next() {
        out.set("attention.scale", attention.scale);
    }
    out.set("embedding_scale", spec.embedding.scale);
    if let Some(layer) = spec.layers.first() {
        out.set("residual_scale", layer.residual_scale);
        if let Mlp::Experts(experts) = &layer.mlp
            && let Some(shared) = &experts.shared
            && let Mlp::Gated { down, .. } = &*shared.mlp
        {
            out.size("expert_shared_feed_forward_length", down.inputs);
        }
    }
    if let Head::Logits { scale, .. } = &spec.head {
        out.set("logit_scale", 1.0 / scale);
    }
}

/// The same as [`plain`], with what logits are multiplied with.
pub(super) fn logit_scaled(spec: &ModelSpec, out: &mut Written<'_>) {
    plain(spec, out);
    if let Head::Logits { scale, .. } = &spec.head {
        out.set("logit_scale", *scale);
    }
}

/// The same as [`plain`], with whether the MLP reads what attention reads.
pub(super) fn parallel(spec: &ModelSpec, out: &mut Written<'_>) {
    plain(spec, out);
    out.set("use_parallel_residual", spec.layers.first().is_some_and(|layer| layer.is_parallel));
}

/// The same as [`patterned`], with how many layers read the keys and values of others, and the width of a layer's part
/// of a second embedding.
pub(super) fn shared(spec: &ModelSpec, out: &mut Written<'_>) {
    patterned(spec, out);
    let is_shared = |attention: &&AttentionSpec| matches!(attention.kv, KvSpec::Of(_));
    out.size("attention.shared_kv_layers", attentions(spec).filter(is_shared).count());
    let part = spec.embedding.per_layer.as_ref().map_or(0, |part| part.width);
    out.size("embedding_length_per_layer_input", part);
    if let Some(rope) =
        attentions(spec).find_map(|attention| attention.rope.as_ref().filter(|_| attention.window.is_some()))
    {
        out.set("rope.freq_base_swa", rope.base);
    }
}

/// The same as [`plain`], with what queries at later positions are multiplied with.
pub(super) fn tempered(spec: &ModelSpec, out: &mut Written<'_>) {
    plain(spec, out);
    if let Some(temperature) = attentions(spec).find_map(|attention| attention.temperature) {
        out.set("attention.temperature_scale", temperature.beta);
    }
    let rope = attentions(spec).find_map(|attention| attention.rope.as_ref());
    if let Some(RopeSpec { scaling: RopeScaling::Yarn(yarn), .. }) = rope
        && yarn.attention_factor == 1.0
    {
        // The files say so where YaRN's multiplier is left out.
        out.set("rope.scaling.yarn_log_multiplier", 1.0_f32);
    }
}

/// The same as [`plain`], with the gated delta nets that most layers have in place of attention, and the width of what all
/// rows go through beside experts.
pub(super) fn delta_nets(spec: &ModelSpec, out: &mut Written<'_>) {
    plain(spec, out);
    if let Some(heads) = attentions(spec).next() {
        out.size("attention.head_count_kv", heads.kv_heads);
    }
    if let Some(net) = spec.layers.iter().find_map(recurrent) {
        recurrence(net, out);
    }
    let is_recurrent: Vec<bool> = spec.layers.iter().map(|layer| recurrent(layer).is_some()).collect();
    // For readers that know no list.
    let interval = is_recurrent.iter().position(|is_recurrent| !is_recurrent).map_or(4, |first| first + 1);
    out.size("full_attention_interval", interval);
    out.set("attention.recurrent_layers", is_recurrent);
    if let Some(rope) = attentions(spec).find_map(|attention| attention.rope.as_ref()) {
        // Positions of text are the same in all sections.
        let pairs = i32::try_from(rope.dims / 2).unwrap_or(0);
        out.set("rope.dimension_sections", vec![pairs - 2 * (pairs / 4), pairs / 4, pairs / 4, 0]);
    }
    let shared = spec.mixtures().find_map(|experts| match &*experts.shared.as_ref()?.mlp {
        Mlp::Gated { down, .. } => Some(down.inputs),
        _ => None,
    });
    if let Some(inner) = shared {
        out.size("expert_shared_feed_forward_length", inner);
    }
}

/// The same as [`scaled`], with the Mamba-2 that most layers have in place of attention.
pub(super) fn mamba(spec: &ModelSpec, out: &mut Written<'_>) {
    scaled(spec, out);
    if let Some(mamba) = spec.layers.iter().find_map(recurrent) {
        recurrence(mamba, out);
    }
    let is_rotated = attentions(spec).any(|attention| attention.rope.is_some());
    out.set("rope.scaling.finetuned", is_rotated);
}

/// The same as [`plain`], with latent attention, and which layers have experts and how they are chosen.
pub(super) fn latent(spec: &ModelSpec, out: &mut Written<'_>) {
    plain(spec, out);
    let Some(latent) = spec.layers.iter().find_map(|layer| match &layer.mixer {
        Mixer::Latent(latent) => Some(&**latent),
        _ => None,
    }) else {
        return;
    };
    out.size("attention.head_count", latent.heads);
    // As it is computed: one row of keys for all heads, which is the row of values as well.
    out.size("attention.head_count_kv", 1);
    out.size("attention.kv_lora_rank", latent.rank);
    if let Some((down, _)) = &latent.query_latent {
        out.size("attention.q_lora_rank", down.outputs);
    }
    let dim = latent.nope_dim + latent.rope_dim;
    out.size("attention.key_length", latent.rank + latent.rope_dim);
    out.size("attention.value_length", latent.rank);
    out.size("attention.key_length_mla", dim);
    out.size("attention.value_length_mla", latent.value_dim);
    rotation(&latent.rope, out);
    if let RopeScaling::Yarn(yarn) = &latent.rope.scaling {
        // What scores are multiplied with besides: `(1 + multiplier * ln(factor))^2`.
        let stretch = f64::from(latent.scale) * (dim as f64).sqrt();
        let multiplier = (stretch.sqrt() - 1.0) / f64::from(yarn.factor).ln();
        out.set("rope.scaling.yarn_log_multiplier", ((multiplier * 1e5).round() / 1e5) as f32);
    }
    let dense = |layer: &LayerSpec| match &layer.mlp {
        Mlp::Gated { down, .. } => Some(down.inputs),
        _ => None,
    };
    out.size("leading_dense_block_count", spec.layers.iter().map_while(dense).count());
    // Layers with experts have a key of their own, and may all be such.
    let expert = spec.mixtures().find_map(|experts| Some(experts.experts.first()?.down.inputs));
    if let Some(inner) = spec.layers.iter().find_map(dense).or(expert) {
        out.size("feed_forward_length", inner);
    }
    routing(spec, out);
}

/// Writes how experts are chosen, and how many are shared.
fn routing(spec: &ModelSpec, out: &mut Written<'_>) {
    let Some(experts) = spec.mixtures().next() else { return };
    let RoutingSpec { scoring, groups, is_normalized, scale, .. } = &experts.routing;
    let inner = experts.experts.first().map_or(1, |expert| expert.down.inputs.max(1));
    if let Some(Mlp::Gated { down, .. }) = experts.shared.as_ref().map(|shared| &*shared.mlp) {
        out.size("expert_shared_count", down.inputs / inner);
    }
    out.size("expert_gating_func", if *scoring == Scoring::Softmax { 1 } else { 2 });
    out.set("expert_weights_norm", *is_normalized);
    out.set("expert_weights_scale", *scale);
    let (count, chosen) = groups.map_or((1, 1), |groups| (groups.count, groups.chosen));
    out.size("expert_group_count", count);
    out.size("expert_group_used_count", chosen);
}

/// Writes the sizes of what rows pass in place of attention.
fn recurrence(spec: &RecurrentSpec, out: &mut Written<'_>) {
    out.size("ssm.conv_kernel", spec.query.conv.kernel);
    out.size("ssm.state_size", spec.key_dim);
    out.size("ssm.group_count", spec.key_heads);
    out.size("ssm.time_step_rank", spec.heads);
    out.size("ssm.inner_size", spec.heads.saturating_mul(spec.value_dim));
}

fn recurrent(layer: &LayerSpec) -> Option<&RecurrentSpec> {
    match &layer.mixer {
        Mixer::Recurrent(spec) => Some(spec),
        _ => None,
    }
}

fn attentions(spec: &ModelSpec) -> impl Iterator<Item = &AttentionSpec> {
    spec.layers.iter().filter_map(|layer| match &layer.mixer {
        Mixer::Attention(attention) => Some(&**attention),
        _ => None,
    })
}

fn kv_heads(layer: &LayerSpec) -> usize {
    layer.mixer.attention().map_or(0, |attention| attention.kv_heads)
}

fn mlps(spec: &ModelSpec, out: &mut Written<'_>) {
    let mut all = Vec::new();
    for layer in &spec.layers {
        let experts = match &layer.mlp {
            Mlp::Gated { down, .. } | Mlp::Plain { down, .. } => {
                all.push(down.inputs);
                continue;
            }
            Mlp::Experts(experts) => experts,
        };
        let inner = experts.experts.first().map_or(0, |expert| expert.down.inputs);
        out.size("expert_count", experts.experts.len());
        out.size("expert_used_count", experts.routing.chosen);
        out.size("expert_feed_forward_length", inner);
        all.push(match experts.shared.as_ref().map(|shared| &*shared.mlp) {
            // Beside the experts, and not among them.
            Some(Mlp::Gated { down, .. }) if experts.apart.is_some() => down.inputs,
            _ => inner,
        });
    }
    out.sizes("feed_forward_length", all.into_iter());
}

/// Writes the rotation of layers that see all, and the base of those that do not.
fn rotations(attentions: &[&AttentionSpec], out: &mut Written<'_>) {
    let mut ropes =
        attentions.iter().filter_map(|attention| Some((attention.window, attention.rope.as_ref()?)));
    let Some((_, first)) = ropes.clone().next() else { return };
    let full = ropes.clone().find(|(window, _)| window.is_none()).map_or(first, |(_, rope)| rope);
    rotation(full, out);
    if let Some((_, local)) = ropes.find(|(window, rope)| window.is_some() && rope.base != full.base) {
        out.set("rope.freq_base_swa", local.base);
    }
}

fn rotation(rope: &RopeSpec, out: &mut Written<'_>) {
    out.set("rope.freq_base", rope.base);
    out.size("rope.dimension_count", rope.dims);
    match &rope.scaling {
        RopeScaling::Linear { factor } => {
            out.set("rope.scaling.type", "linear");
            out.set("rope.scaling.factor", *factor);
        }
        RopeScaling::Yarn(yarn) => {
            out.set("rope.scaling.type", "yarn");
            out.set("rope.scaling.factor", yarn.factor);
            out.size("rope.scaling.original_context_length", yarn.original_tokens);
            out.set("rope.scaling.yarn_beta_fast", yarn.beta_fast);
            out.set("rope.scaling.yarn_beta_slow", yarn.beta_slow);
        }
        RopeScaling::LongRope(long) => {
            out.size("rope.scaling.original_context_length", long.original_tokens);
            out.set("rope.scaling.attn_factor", long.attention_factor);
        }
        // Divisors are a tensor, and need no key.
        RopeScaling::None
        | RopeScaling::Dynamic { .. }
        | RopeScaling::Llama3(_)
        | RopeScaling::Factors(_) => {}
    }
}
