//! Gemma 3n (text): several residual streams, of which layers compute the first; a low-rank path beside attention; MLPs
//! in whose first layers few gates count; a second embedding by layer; layers that read the keys and values of others.

use hub_nn::spec::{
    Activation, AltUpSpec, KvSpec, LaurelSpec, LinearSpec, Mixer, Mlp, ModelSpec, NormScope, Pairing,
    PerLayerEmbedding, RopeScaling, RopeSpec, StreamsSpec, TensorRef,
};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{
        Decoder, Sizes, activation, gguf_windowed_layers, layers, windowed_but_every, windowed_layers,
    },
    gemma2::{SANDWICH, sandwich},
    gemma3::alternate,
    keys::DefaultValue,
    names::Names,
    per_layer::{Small, share, shared_layers},
    rope::{self, RopeShape},
    written::{self, Written},
};

/// One layer in so many sees everything, where the files do not say.
const PATTERN: usize = 5;
/// The base of the angles of windowed layers, where the files do not say.
const LOCAL_BASE: f32 = 10_000.0;
const LOGIT_CAP: f64 = 30.0;
/// The most streams that are laid out; far above any real model.
const MAX_STREAMS: usize = 64;
/// The mean square that a row of a stream has at least when it is scaled.
const LEAST_SQUARE: f32 = 1e-5;

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "gemma3n",
    architectures: &["Gemma3nForCausalLM"],
    model_types: &["gemma3n_text"],
    defaults: &[
        ("altup_num_inputs", DefaultValue::Whole(4)),
        ("final_logit_softcapping", DefaultValue::Number(LOGIT_CAP)),
        ("head_dim", DefaultValue::Whole(256)),
        ("hidden_activation", DefaultValue::Text("gelu_pytorch_tanh")),
        ("hidden_size_per_layer_input", DefaultValue::Whole(256)),
        ("laurel_rank", DefaultValue::Whole(64)),
        ("max_position_embeddings", DefaultValue::Whole(32_768)),
        ("num_key_value_heads", DefaultValue::Whole(2)),
        ("num_kv_shared_layers", DefaultValue::Whole(15)),
        ("rms_norm_eps", DefaultValue::Number(1e-6)),
        ("sliding_window", DefaultValue::Whole(512)),
        ("vocab_size_per_layer_input", DefaultValue::Whole(262_144)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "gemma3n", read: Some(from_gguf), write: Some(write) }),
};

/// What the layers are like.
struct Layers {
    small: Small,
    is_windowed: Vec<bool>,
    /// So many layers at the end read the keys and values of others.
    shared: usize,
    /// The inner width of each layer's MLP.
    inner: Vec<usize>,
    /// How many standard deviations above the mean gates must be to count, in layers where few do.
    sparsity: Vec<Option<f32>>,
    streams: usize,
    /// Whether the first stream is scaled where the second embedding is gated by it.
    is_scaled: bool,
    rank: usize,
    /// The width of a layer's part of the second embedding, and how many tokens that knows.
    part: (usize, usize),
}

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let count = layers(keys, "num_hidden_layers")?;
    let inner = keys.layered("intermediate_size", count)?;
    let inner = inner.ok_or_else(|| keys.missing("intermediate_size"))?;
    let widest = inner.iter().max().copied().unwrap_or(0);
    let sizes = Sizes::from_config_around(keys, "rms_norm_eps", widest)?;
    keys.only("attention_bias", "false")?;
    keys.only("altup_active_idx", "0")?;
    // About training, and what an early configuration class said that nothing reads.
    ["altup_coef_clip", "altup_lr_multiplier", "query_pre_attn_scalar"]
        .into_iter()
        .for_each(|key| keys.skip(key));
    let local_base = keys.maybe_number("rope_local_base_freq")?.unwrap_or(LOCAL_BASE);
    let ropes = rope::by_layer_type(keys, shape(&sizes), local_base)?;
    let windowed = windowed_layers(keys, count)?;
    let layers = Layers {
        small: Small {
            is_gguf: false,
            hidden: sizes.hidden,
            layers: count,
            eps: sizes.eps,
            activation: activation(keys, "hidden_activation")?,
        },
        is_windowed: windowed.unwrap_or_else(|| windowed_but_every(PATTERN, count)),
        shared: shared_layers(keys, "num_kv_shared_layers", count)?,
        inner,
        sparsity: config_sparsity(keys, count)?,
        streams: streams(keys, "altup_num_inputs")?,
        is_scaled: keys.flag("altup_correct_scale", true)?,
        rank: keys.size("laurel_rank")?,
        part: (keys.size("hidden_size_per_layer_input")?, keys.size("vocab_size_per_layer_input")?),
    };
    let decoder = Decoder {
        logit_cap: keys.maybe_number("final_logit_softcapping")?,
        is_tied: keys.flag("tie_word_embeddings", true)?,
        ..Decoder::new(SANDWICH, sizes, None, ropes.0.clone())
    };
    Ok(layers.spec(decoder, keys.maybe_size("sliding_window")?, ropes, files))
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    keys.only("altup.active_idx", "0")?;
    let global = rope::from_gguf(keys, files, Pairing::Halves, shape(&sizes))?;
    let base = keys.maybe_number("rope.freq_base_swa")?.unwrap_or(LOCAL_BASE);
    let local = RopeSpec { base, scaling: RopeScaling::None, ..global.clone() };
    let rows = |name: &str| files.rows(name).ok_or_else(|| keys.missing(name));
    let layers = Layers {
        small: Small {
            is_gguf: true,
            hidden: sizes.hidden,
            layers: sizes.layers,
            eps: sizes.eps,
            activation: Activation::GeluTanh,
        },
        is_windowed: gguf_windowed_layers(keys, sizes.layers, PATTERN)?,
        shared: shared_layers(keys, "attention.shared_kv_layers", sizes.layers)?,
        inner: keys.layered("feed_forward_length", sizes.layers)?.unwrap_or_default(),
        sparsity: gguf_sparsity(keys, sizes.layers)?,
        streams: streams(keys, "altup.num_inputs")?,
        is_scaled: true,
        rank: rows("blk.0.laurel_l.weight")?,
        part: (keys.size("embedding_length_per_layer_input")?, rows("per_layer_token_embd.weight")?),
    };
    let decoder = Decoder {
        logit_cap: Some(keys.maybe_number("final_logit_softcapping")?.unwrap_or(LOGIT_CAP as f32)),
        is_tied: !files.has(Names::GGUF.head()),
        ..Decoder::new(Names::GGUF, sizes, None, global.clone())
    };
    Ok(layers.spec(decoder, keys.maybe_size("attention.sliding_window")?, (global, local), files))
}

fn shape(sizes: &Sizes) -> RopeShape {
    RopeShape { default_base: 1_000_000.0, ..RopeShape::of(sizes) }
}

/// Reads how many residual streams there are, before anything is laid out for each.
fn streams(keys: &Keys<'_>, key: &str) -> Result<usize, FamilyError> {
    match keys.size(key)? {
        streams @ 2..=MAX_STREAMS => Ok(streams),
        _ => Err(keys.bad(key, "2 to 64")),
    }
}

/// Reads which part of the gates does not count in each layer, as if they were normally distributed.
fn config_sparsity(keys: &Keys<'_>, layers: usize) -> Result<Vec<Option<f32>>, FamilyError> {
    let key = "activation_sparsity_pattern";
    if !keys.has(key) {
        return Ok(usual_sparsity(layers));
    }
    let parts = keys.numbers(key)?;
    if parts.len() != layers || !parts.iter().all(|part| (0.0..1.0).contains(part)) {
        return Err(keys.bad(key, "a part of one for each layer"));
    }
    Ok(parts.into_iter().map(|part| (part > 0.0).then(|| normal_quantile(part))).collect())
}

/// Reads the same as GGUF metadata has it: standard deviations, minus infinity where all gates count.
fn gguf_sparsity(keys: &Keys<'_>, layers: usize) -> Result<Vec<Option<f32>>, FamilyError> {
    let key = "activation_sparsity_scale";
    let Some(scales) = keys.layered_floats(key, layers)? else { return Ok(usual_sparsity(layers)) };
    if scales.iter().any(|scale| scale.is_nan() || *scale == f32::INFINITY) {
        return Err(keys.bad(key, "a number for each layer"));
    }
    Ok(scales.iter().map(|scale| scale.is_finite().then_some(*scale)).collect())
}

/// What layers are like where the files do not say.
fn usual_sparsity(layers: usize) -> Vec<Option<f32>> {
    let sparse = if layers > 10 { 10 } else { 0 };
    (0..layers).map(|layer| (layer < sparse).then(|| normal_quantile(0.95))).collect()
}

/// Returns below what number a part of the standard normal distribution lies; `part` is within zero and one.
///
/// Newton's method from zero on: half the distribution is concave, so that no step goes too far. The distribution is
/// summed up as in Marsaglia 2004, <https://doi.org/10.18637/jss.v011.i04>.
fn normal_quantile(part: f32) -> f32 {
    if part < 0.5 {
        return -normal_quantile(1.0 - part);
    }
    let (mut x, part) = (0.0f64, f64::from(part));
    for _ in 0..64 {
        let density = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
        let (mut term, mut sum) = (x, x);
        for k in 1..128 {
            term *= x * x / f64::from(2 * k + 1);
            sum += term;
        }
        x += (part - 0.5 - sum * density) / density;
    }
    x as f32
}

fn write(spec: &ModelSpec, out: &mut Written<'_>) {
    written::shared(spec, out);
    out.size("altup.active_idx", 0);
    out.size("altup.num_inputs", spec.streams.as_ref().map_or(1, StreamsSpec::count));
    let sparsity = spec.layers.iter().map(|layer| match &layer.mlp {
        Mlp::Gated { sparsity: Some(sparsity), .. } => *sparsity,
        _ => f32::NEG_INFINITY,
    });
    out.set("activation_sparsity_scale", sparsity.collect::<Vec<_>>());
}

impl Layers {
    /// Finishes every layer of a decoder.
    fn spec(
        &self,
        decoder: Decoder,
        window: Option<usize>,
        (global, local): (RopeSpec, RopeSpec),
        files: &Files<'_>,
    ) -> ModelSpec {
        let decoder = Decoder {
            layers: alternate(&self.is_windowed, window, &global, &local),
            head_norms: Some(NormScope::Head),
            score_scale: Some(1.0),
            activation: self.small.activation,
            ..sandwich(decoder)
        };
        let mut spec = decoder.spec("gemma3n", files);
        for (layer, own) in spec.layers.iter_mut().enumerate() {
            if let Mixer::Attention(attention) = &mut own.mixer
                && let KvSpec::Own(own) = &mut attention.kv
            {
                own.value_norm_eps = Some(self.small.eps);
            }
            if let Mlp::Gated { gate, up, down, sparsity, .. } = &mut own.mlp {
                let inner = self.inner.get(layer).copied().unwrap_or(down.inputs);
                (gate.outputs, up.outputs, down.inputs) = (inner, inner, inner);
                *sparsity = self.sparsity.get(layer).copied().flatten();
            }
            own.laurel = Some(self.laurel(layer));
            own.altup = Some(self.altup(layer));
            own.per_layer = Some(self.small.part(layer, self.part.0));
        }
        let second = self.small.second_embedding(self.part.0, self.part.1);
        // As `transformers`: tokens of images and sounds have no row.
        spec.embedding.per_layer = Some(PerLayerEmbedding { other_token: Some(0), ..second });
        spec.streams = Some(StreamsSpec {
            projections: self.projections("altup_projections", "altup_proj"),
            unembed_projections: self.projections("altup_unembed_projections", "altup_unembd_proj"),
            least_square: LEAST_SQUARE,
        });
        share(&mut spec, self.shared, &self.is_windowed, files);
        if !self.is_scaled {
            let is_scale = |name: &str| name.ends_with(".correct_output_scale");
            spec.left_out.extend(files.left_out("the configuration does without", is_scale));
        }
        spec
    }

    fn laurel(&self, layer: usize) -> LaurelSpec {
        let Small { hidden, .. } = self.small;
        let name = |hugging_face, gguf| self.small.name(layer, hugging_face, gguf);
        let left = name("laurel.linear_left.weight", "laurel_l.weight");
        let right = name("laurel.linear_right.weight", "laurel_r.weight");
        LaurelSpec {
            left: self.small.linear(left, hidden, self.rank),
            right: self.small.linear(right, self.rank, hidden),
            norm: self.small.norm(name("laurel.post_laurel_norm.weight", "laurel_post_norm.weight")),
            scale: std::f32::consts::FRAC_1_SQRT_2,
        }
    }

    fn altup(&self, layer: usize) -> AltUpSpec {
        let Small { hidden, .. } = self.small;
        let name = |hugging_face, gguf| self.small.name(layer, hugging_face, gguf);
        let router = name("altup.modality_router.weight", "altup_router.weight");
        let scale = || name("altup.correct_output_scale", "altup_correct_scale.weight");
        AltUpSpec {
            router: self.small.linear(router, hidden, self.streams),
            router_norm: self.small.norm(name("altup.router_norm.weight", "altup_router_norm.weight")),
            router_scale: 1.0 / hidden as f32,
            prediction: TensorRef::new(name("altup.prediction_coefs.weight", "altup_predict_coef.weight")),
            correction: TensorRef::new(name("altup.correction_coefs.weight", "altup_correct_coef.weight")),
            output_scale: self.is_scaled.then(|| TensorRef::new(scale())),
        }
    }

    /// A projection for each stream but the first: GGUF files have them in one tensor.
    fn projections(&self, hugging_face: &str, gguf: &str) -> Vec<LinearSpec> {
        let Small { hidden, is_gguf, .. } = self.small;
        let projection = |index: usize| LinearSpec {
            weight: match is_gguf {
                true => TensorRef::rows(format!("{gguf}.weight"), index * hidden..(index + 1) * hidden),
                false => TensorRef::new(format!("model.{hugging_face}.{index}.weight")),
            },
            bias: None,
            inputs: hidden,
            outputs: hidden,
        };
        (0..self.streams - 1).map(projection).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::normal_quantile;

    #[test]
    fn quantiles_are_those_of_tables() {
        let known =
            [(0.5, 0.0), (0.75, 0.674_489_75), (0.95, 1.644_853_6), (0.05, -1.644_853_6), (0.999, 3.090_232)];
        for (part, expected) in known {
            let found = normal_quantile(part);
            assert!((found - expected).abs() < 1e-5, "{part}: {found}, not {expected}");
        }
        assert!(normal_quantile(1.0 - f32::EPSILON).is_finite());
    }
}
