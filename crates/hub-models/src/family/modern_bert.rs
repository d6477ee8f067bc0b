//! ModernBERT: an encoder whose rows see both ways, most layers within a window, with rotations and gated MLPs; and the
//! cross-encoders over it.

use hub_nn::spec::{
    Activation, AttentionSpec, EmbeddingSpec, Head, KvSpec, LayerSpec, LinearSpec, Mask, Mixer, Mlp,
    ModelSpec, NormKind, NormScope, NormSpec, OwnKv, Pairing, PooledLayer, PooledSpec, RopeScaling, RopeSpec,
    RowPooling, SublayerNorms, TensorRef,
};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    bert::one_score,
    decoder::{activation, layers, to_each_side, windowed_layers},
    keys::DefaultValue,
    rope::{self, RopeShape},
    row_pooling,
};

/// One layer in so many sees everything, the first among them, where the files do not say.
const PATTERN: usize = 3;
/// The bases of the angles, where the files do not say.
const GLOBAL_BASE: f32 = 160_000.0;
const LOCAL_BASE: f32 = 10_000.0;

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "modern-bert",
    architectures: &["ModernBertModel", "ModernBertForSequenceClassification"],
    model_types: &["modernbert"],
    defaults: &[
        ("classifier_activation", DefaultValue::Text("gelu")),
        ("classifier_pooling", DefaultValue::Text("cls")),
        ("hidden_activation", DefaultValue::Text("gelu")),
        ("local_attention", DefaultValue::Whole(128)),
        ("max_position_embeddings", DefaultValue::Whole(8_192)),
        ("norm_eps", DefaultValue::Number(1e-5)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "modern-bert", read: Some(from_gguf), write: None }),
};

/// Sizes, what layers differ in, and where tensors are.
struct Encoder {
    hidden: usize,
    inner: usize,
    heads: usize,
    vocab: usize,
    context: usize,
    eps: f32,
    activation: Activation,
    /// The window and the rotation of each layer.
    layers: Vec<(Option<usize>, RopeSpec)>,
    biases: Biases,
    names: Names,
}

/// What has something added.
#[derive(Clone, Copy, Default)]
struct Biases {
    attention: bool,
    mlp: bool,
    norms: bool,
}

/// Where tensors are.
#[derive(Clone, Copy)]
enum Names {
    /// As `transformers` names them, behind a prefix.
    HuggingFace(&'static str),
    /// As llama.cpp names them.
    Gguf,
}

#[derive(Clone, Copy)]
enum Part {
    MixerNorm,
    QueryKeyValue,
    Output,
    MlpNorm,
    GateUp,
    Down,
}

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let is_classifier = files.architecture == "ModernBertForSequenceClassification";
    let prefix = if files.has("model.embeddings.tok_embeddings.weight") { "model." } else { "" };
    skip(keys)?;
    let (hidden, heads) = (keys.size("hidden_size")?, keys.size("num_attention_heads")?);
    let context = keys.size("max_position_embeddings")?;
    let layers = layers(keys, "num_hidden_layers")?;
    let shape =
        RopeShape { head_dim: hidden / heads.max(1), context_tokens: context, default_base: GLOBAL_BASE };
    let pattern = keys.maybe_size("global_attn_every_n_layers")?.unwrap_or(PATTERN);
    let encoder = Encoder {
        hidden,
        inner: keys.size("intermediate_size")?,
        heads,
        vocab: keys.size("vocab_size")?,
        context,
        eps: keys.number("norm_eps")?,
        activation: activation(keys, "hidden_activation")?,
        layers: alternate(
            &windowed_layers(keys, layers)?.unwrap_or_else(|| by_pattern(layers, pattern)),
            keys.maybe_size("local_attention")?,
            ropes(keys, shape)?,
        ),
        biases: Biases {
            attention: keys.flag("attention_bias", false)?,
            mlp: keys.flag("mlp_bias", false)?,
            norms: keys.flag("norm_bias", false)?,
        },
        names: Names::HuggingFace(prefix),
    };
    let mut spec = encoder.spec();
    let classifier = encoder.classifier(keys, files)?;
    if is_classifier {
        spec.head = classifier;
    } else {
        let is_head = |name: &str| name.starts_with("head.") || name.starts_with("decoder.");
        spec.left_out = files.left_out("a head of the pre-training", is_head);
    }
    Ok(spec)
}

/// Reads past what says nothing about the layers.
fn skip(keys: &Keys<'_>) -> Result<(), FamilyError> {
    // A word of BERT's that the first files kept; all of these models rotate.
    keys.only("position_embedding_type", "absolute")?;
    // The first files named the epsilon twice, and this one is not read.
    for key in ["layer_norm_eps", "tie_word_embeddings", "decoder_bias", "deterministic_flash_attn"] {
        keys.skip(key);
    }
    for key in [
        "initializer_cutoff_factor",
        "reference_compile",
        "repad_logits_with_grad",
        "sparse_pred_ignore_index",
    ] {
        keys.skip(key);
    }
    keys.skip("sparse_prediction");
    Ok(())
}

/// Reads the rotations of layers that see all and of those with a window.
fn ropes(keys: &Keys<'_>, shape: RopeShape) -> Result<(RopeSpec, RopeSpec), FamilyError> {
    let (global, local) = (keys.maybe_number("global_rope_theta")?, keys.maybe_number("local_rope_theta")?);
    let shape = RopeShape { default_base: global.unwrap_or(shape.default_base), ..shape };
    rope::by_layer_type(keys, shape, local.unwrap_or(LOCAL_BASE))
}

/// Says which layers are windowed: all but the first of each `pattern`.
fn by_pattern(layers: usize, pattern: usize) -> Vec<bool> {
    (0..layers).map(|layer| !layer.is_multiple_of(pattern.max(1))).collect()
}

fn alternate(
    windowed: &[bool],
    window: Option<usize>,
    (global, local): (RopeSpec, RopeSpec),
) -> Vec<(Option<usize>, RopeSpec)> {
    let layer = |is_windowed: &bool| match is_windowed {
        true => (window.map(to_each_side), local.clone()),
        false => (None, global.clone()),
    };
    windowed.iter().map(layer).collect()
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    keys.only("attention.causal", "false")?;
    keys.only("rope.scaling.type", "none")?;
    keys.skip("vocab_size");
    let (hidden, heads) = (keys.size("embedding_length")?, keys.size("attention.head_count")?);
    let layers = layers(keys, "block_count")?;
    let pattern = keys.maybe_size("attention.sliding_window_pattern")?.unwrap_or(PATTERN);
    let rope = |key: &str, default: f32| {
        let base = keys.maybe_number(key)?.unwrap_or(default);
        let dims = hidden / heads.max(1);
        Ok::<_, FamilyError>(RopeSpec { base, dims, pairing: Pairing::Halves, scaling: RopeScaling::None })
    };
    let window = keys.maybe_size("attention.sliding_window")?.filter(|window| *window > 0);
    let ropes = (rope("rope.freq_base", GLOBAL_BASE)?, rope("rope.freq_base_swa", LOCAL_BASE)?);
    let encoder = Encoder {
        hidden,
        inner: keys.size("feed_forward_length")?,
        heads,
        vocab: files.rows("token_embd.weight").ok_or_else(|| keys.missing("token_embd.weight"))?,
        context: keys.size("context_length")?,
        eps: epsilon(keys)?,
        activation: match keys.has("hidden_activation") {
            true => activation(keys, "hidden_activation")?,
            false => Activation::Gelu,
        },
        layers: alternate(&by_pattern(layers, pattern), window, ropes),
        // llama.cpp knows none.
        biases: Biases::default(),
        names: Names::Gguf,
    };
    let mut spec = encoder.spec();
    // As llama.cpp takes a file that does not say.
    let key = "classifier.pooling_type";
    let pooling = row_pooling(keys.maybe_size(key)?.unwrap_or(1) as u64);
    let pooling = pooling.filter(|pooling| *pooling != RowPooling::Last);
    let pooling = pooling.ok_or_else(|| keys.unsupported(key, "1 or 2"))?;
    if files.has("cls.output.weight") {
        let dense = plain("cls", hidden, hidden, files.has("cls.bias"));
        let labels = one_score(keys, files, "cls.output.weight")?;
        let out = plain("cls.output", hidden, labels, files.has("cls.output.bias"));
        let norm = encoder.norm("cls.norm");
        spec.head = scored(pooling, dense, Activation::Gelu, norm, out);
    }
    Ok(spec)
}

/// Reads the epsilon of the norms. The converter takes the one that files name second for that of another norm, and some
/// files name but one.
fn epsilon(keys: &Keys<'_>) -> Result<f32, FamilyError> {
    let second = keys.maybe_number("attention.layer_norm_rms_epsilon")?;
    match (keys.maybe_number("attention.layer_norm_epsilon")?, second) {
        (Some(eps), _) | (None, Some(eps)) => Ok(eps),
        (None, None) => Err(keys.missing("attention.layer_norm_epsilon")),
    }
}

fn plain(name: &str, inputs: usize, outputs: usize, is_biased: bool) -> LinearSpec {
    LinearSpec {
        weight: TensorRef::new(format!("{name}.weight")),
        bias: is_biased.then(|| TensorRef::new(format!("{name}.bias"))),
        inputs,
        outputs,
    }
}

/// What makes scores of rows: `out(norm(activation(dense(x))))`.
fn scored(
    pooling: RowPooling,
    dense: LinearSpec,
    activation: Activation,
    norm: NormSpec,
    out: LinearSpec,
) -> Head {
    let dense = PooledLayer { linear: dense, activation: Some(activation), norm: Some(norm) };
    Head::Classifier(PooledSpec { pooling, layers: vec![dense, PooledLayer::plain(out)] })
}

impl Encoder {
    /// Reads the head that scores; models without one have its keys too.
    fn classifier(&self, keys: &Keys<'_>, files: &Files<'_>) -> Result<Head, FamilyError> {
        let pooling = match keys.text("classifier_pooling")? {
            Some("cls") => RowPooling::First,
            Some("mean") => RowPooling::Mean,
            _ => return Err(keys.unsupported("classifier_pooling", "cls or mean")),
        };
        let activation = activation(keys, "classifier_activation")?;
        let dense = plain("head.dense", self.hidden, self.hidden, keys.flag("classifier_bias", false)?);
        if !files.has("classifier.weight") {
            return Ok(Head::None);
        }
        let labels = one_score(keys, files, "classifier.weight")?;
        let out = plain("classifier", self.hidden, labels, true);
        Ok(scored(pooling, dense, activation, self.norm("head.norm"), out))
    }

    /// Lays out every layer, without a head.
    fn spec(&self) -> ModelSpec {
        let (table, norm, final_norm) = self.names.frame();
        ModelSpec {
            family: "modern-bert",
            hidden_size: self.hidden,
            vocab_size: self.vocab,
            context_tokens: self.context,
            mask: Mask::Bidirectional,
            embedding: EmbeddingSpec {
                table: TensorRef::new(table),
                scale: 1.0,
                positions: None,
                token_types: None,
                norm: Some(self.norm(&norm)),
                per_layer: None,
            },
            streams: None,
            layers: (0..self.layers.len()).map(|layer| self.layer(layer)).collect(),
            final_norm: Some(self.norm(&final_norm)),
            head: Head::None,
            left_out: Vec::new(),
        }
    }

    fn layer(&self, layer: usize) -> LayerSpec {
        let norm = |part| self.norm(&self.names.layer(layer, part));
        // What enters the first layer has just been normalised.
        let before = (layer > 0).then(|| norm(Part::MixerNorm));
        LayerSpec {
            mixer: Mixer::from(self.attention(layer)),
            mixer_norms: SublayerNorms { before, ..SublayerNorms::default() },
            mlp: Mlp::Gated {
                gate: self.rows(layer, Part::GateUp, 0, self.inner, self.biases.mlp),
                up: self.rows(layer, Part::GateUp, 1, self.inner, self.biases.mlp),
                down: plain(&self.names.layer(layer, Part::Down), self.inner, self.hidden, self.biases.mlp),
                activation: self.activation,
                sparsity: None,
            },
            mlp_norms: SublayerNorms::pre(norm(Part::MlpNorm)),
            residual_scale: 1.0,
            is_parallel: false,
            laurel: None,
            altup: None,
            per_layer: None,
            output_scale: None,
        }
    }

    fn attention(&self, layer: usize) -> AttentionSpec {
        let head_dim = self.hidden / self.heads.max(1);
        let biased = self.biases.attention;
        let part = |place| self.rows(layer, Part::QueryKeyValue, place, self.hidden, biased);
        let (window, rope) = self.layers[layer].clone();
        AttentionSpec {
            heads: self.heads,
            kv_heads: self.heads,
            head_dim,
            query: part(0),
            kv: KvSpec::Own(Box::new(OwnKv {
                key: part(1),
                value: part(2),
                key_norm: None,
                value_norm_eps: None,
            })),
            output: plain(&self.names.layer(layer, Part::Output), self.hidden, self.hidden, biased),
            query_norm: None,
            norm_scope: NormScope::Head,
            rope: Some(rope),
            scale: 1.0 / (head_dim as f32).sqrt(),
            temperature: None,
            window,
            soft_cap: None,
            sinks: None,
            gate: None,
        }
    }

    /// Returns one of several matrices of as many `rows` that lie in one tensor.
    fn rows(&self, layer: usize, part: Part, place: usize, rows: usize, is_biased: bool) -> LinearSpec {
        let name = self.names.layer(layer, part);
        let range = place * rows..(place + 1) * rows;
        LinearSpec {
            weight: TensorRef::rows(format!("{name}.weight"), range.clone()),
            bias: is_biased.then(|| TensorRef::rows(format!("{name}.bias"), range)),
            inputs: self.hidden,
            outputs: rows,
        }
    }

    fn norm(&self, name: &str) -> NormSpec {
        NormSpec {
            kind: NormKind::Layer,
            eps: self.eps,
            weight: TensorRef::new(format!("{name}.weight")),
            bias: self.biases.norms.then(|| TensorRef::new(format!("{name}.bias"))),
            weight_offset: 0.0,
        }
    }
}

impl Names {
    /// Returns where the embedding, its norm and the last norm are.
    fn frame(self) -> (String, String, String) {
        match self {
            Self::HuggingFace(prefix) => (
                format!("{prefix}embeddings.tok_embeddings.weight"),
                format!("{prefix}embeddings.norm"),
                format!("{prefix}final_norm"),
            ),
            Self::Gguf => {
                ("token_embd.weight".to_owned(), "token_embd_norm".to_owned(), "output_norm".to_owned())
            }
        }
    }

    fn layer(self, layer: usize, part: Part) -> String {
        match self {
            Self::HuggingFace(prefix) => {
                let part = match part {
                    Part::MixerNorm => "attn_norm",
                    Part::QueryKeyValue => "attn.Wqkv",
                    Part::Output => "attn.Wo",
                    Part::MlpNorm => "mlp_norm",
                    Part::GateUp => "mlp.Wi",
                    Part::Down => "mlp.Wo",
                };
                format!("{prefix}layers.{layer}.{part}")
            }
            Self::Gguf => {
                let part = match part {
                    Part::MixerNorm => "attn_norm",
                    Part::QueryKeyValue => "attn_qkv",
                    Part::Output => "attn_output",
                    Part::MlpNorm => "ffn_norm",
                    Part::GateUp => "ffn_up",
                    Part::Down => "ffn_down",
                };
                format!("blk.{layer}.{part}")
            }
        }
    }
}
