//! BERT and what keeps its shape: MiniLM, the cross-encoders over it; and the GGUF files of every encoder of this kind.

use hub_nn::spec::{
    Activation, AttentionSpec, EmbeddingSpec, Head, KvSpec, LayerSpec, LearnedPositions, LinearSpec, Mask,
    Mixer, Mlp, ModelSpec, NormKind, NormScope, NormSpec, OwnKv, PooledLayer, PooledSpec, RowPooling,
    SublayerNorms, TensorRef,
};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{activation, layers},
    keys::DefaultValue,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "bert",
    architectures: &["BertModel", "BertForSequenceClassification"],
    model_types: &["bert"],
    defaults: DEFAULTS,
    from_config,
    gguf: Some(Gguf { architecture: "bert", read: Some(from_gguf), write: None }),
};

/// What encoders of this shape are where their files do not say.
pub(super) const DEFAULTS: &[(&str, DefaultValue)] = &[
    ("hidden_act", DefaultValue::Text("gelu")),
    ("layer_norm_eps", DefaultValue::Number(1e-12)),
    ("max_position_embeddings", DefaultValue::Whole(512)),
];

/// An encoder of this shape: sizes, and where its tensors are.
pub(super) struct Encoder {
    pub(super) family: &'static str,
    pub(super) hidden: usize,
    pub(super) inner: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) vocab: usize,
    pub(super) positions: usize,
    /// Row of the first position.
    pub(super) offset: usize,
    pub(super) eps: f32,
    pub(super) activation: Activation,
    pub(super) names: EncoderNames,
}

/// Where the tensors of an encoder are.
pub(super) enum EncoderNames {
    /// As `transformers` names them, behind a prefix.
    HuggingFace(&'static str),
    /// As llama.cpp names them.
    Gguf,
}

#[derive(Clone, Copy)]
enum Part {
    Query,
    Key,
    Value,
    Output,
    MixerNorm,
    Up,
    Down,
    MlpNorm,
}

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let prefix = if files.has("bert.embeddings.word_embeddings.weight") { "bert." } else { "" };
    let encoder = Encoder::from_config(keys, 0, prefix)?;
    let mut spec = encoder.spec();
    if files.architecture == "BertForSequenceClassification" {
        let hidden = encoder.hidden;
        let labels = one_score(keys, files, "classifier.weight")?;
        spec.head = Head::Classifier(scored(
            linear("bert.pooler.dense", hidden, hidden),
            linear("classifier", hidden, labels),
        ));
    } else {
        let pooler = format!("{prefix}pooler.");
        spec.left_out = files.left_out("a head of the pre-training", |name| name.starts_with(&pooler));
    }
    spec.left_out.extend(buffers(files));
    Ok(spec)
}

/// What makes scores of the first row: `out(tanh(dense(x)))`.
pub(super) fn scored(dense: LinearSpec, out: LinearSpec) -> PooledSpec {
    let dense = PooledLayer { linear: dense, activation: Some(Activation::Tanh), norm: None };
    PooledSpec { pooling: RowPooling::First, layers: vec![dense, PooledLayer::plain(out)] }
}

/// Returns how many scores a classifier gives a text: one, or it sorts texts into classes, which nothing here asks for.
pub(super) fn one_score(keys: &Keys<'_>, files: &Files<'_>, weight: &str) -> Result<usize, FamilyError> {
    match files.rows(weight).ok_or_else(|| keys.missing(weight))? {
        1 => Ok(1),
        labels => Err(FamilyError::Unsupported {
            key: "num_labels".to_owned(),
            value: labels.to_string(),
            supported: "1, as a reranker has".to_owned(),
        }),
    }
}

/// Numbers that older files keep beside the weights.
pub(super) fn buffers(files: &Files<'_>) -> Vec<hub_nn::spec::LeftOut> {
    files.left_out("counts up from 0", |name| name.ends_with("embeddings.position_ids"))
}

pub(super) fn linear(name: &str, inputs: usize, outputs: usize) -> LinearSpec {
    LinearSpec {
        weight: TensorRef::new(format!("{name}.weight")),
        bias: Some(TensorRef::new(format!("{name}.bias"))),
        inputs,
        outputs,
    }
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    if keys.flag("attention.causal", false)? {
        return Err(keys.unsupported("attention.causal", "false"));
    }
    let missing = || keys.missing("token_embd.weight");
    let encoder = Encoder {
        family: "bert",
        hidden: keys.size("embedding_length")?,
        inner: keys.size("feed_forward_length")?,
        layers: layers(keys, "block_count")?,
        heads: keys.size("attention.head_count")?,
        vocab: files.rows("token_embd.weight").ok_or_else(missing)?,
        positions: files.rows("position_embd.weight").ok_or_else(missing)?,
        // The converter cuts the rows that stand before the first position.
        offset: 0,
        eps: keys.number("attention.layer_norm_epsilon")?,
        activation: Activation::Gelu,
        names: EncoderNames::Gguf,
    };
    let context = keys.size("context_length")?;
    let mut spec = encoder.spec();
    spec.context_tokens = context.min(spec.context_tokens);
    if files.has("cls.output.weight") {
        let labels = one_score(keys, files, "cls.output.weight")?;
        spec.head = Head::Classifier(scored(
            linear("cls", encoder.hidden, encoder.hidden),
            linear("cls.output", encoder.hidden, labels),
        ));
    }
    Ok(spec)
}

impl Encoder {
    /// Reads the sizes; `offset` is the number of positions that stand before the first.
    pub(super) fn from_config(
        keys: &Keys<'_>,
        offset: usize,
        prefix: &'static str,
    ) -> Result<Self, FamilyError> {
        keys.only("position_embedding_type", "absolute")?;
        keys.only("is_decoder", "false")?;
        keys.only("add_cross_attention", "false")?;
        // There is no head over the vocabulary that could be tied.
        keys.skip("tie_word_embeddings");
        // The number of types is the length of their table.
        keys.skip("type_vocab_size");
        // What the first program of BERT wrote down of its pooler, which `transformers` never read.
        for key in ["directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers"]
        {
            keys.skip(key);
        }
        keys.skip("pooler_size_per_head");
        keys.skip("pooler_type");
        Ok(Self {
            family: keys.family(),
            hidden: keys.size("hidden_size")?,
            inner: keys.size("intermediate_size")?,
            layers: layers(keys, "num_hidden_layers")?,
            heads: keys.size("num_attention_heads")?,
            vocab: keys.size("vocab_size")?,
            positions: keys.size("max_position_embeddings")?,
            offset,
            eps: keys.number("layer_norm_eps")?,
            activation: activation(keys, "hidden_act")?,
            names: EncoderNames::HuggingFace(prefix),
        })
    }

    /// Lays out every layer, without a head.
    pub(super) fn spec(&self) -> ModelSpec {
        let (table, positions, types, norm) = self.names.embeddings();
        ModelSpec {
            family: self.family,
            hidden_size: self.hidden,
            vocab_size: self.vocab,
            context_tokens: self.positions.saturating_sub(self.offset),
            mask: Mask::Bidirectional,
            embedding: EmbeddingSpec {
                table: TensorRef::new(table),
                scale: 1.0,
                positions: Some(LearnedPositions {
                    table: TensorRef::new(positions),
                    count: self.positions,
                    offset: self.offset,
                }),
                token_types: Some(TensorRef::new(types)),
                norm: Some(self.norm(&norm)),
                per_layer: None,
            },
            streams: None,
            layers: (0..self.layers).map(|layer| self.layer(layer)).collect(),
            final_norm: None,
            head: Head::None,
            left_out: Vec::new(),
        }
    }

    fn layer(&self, layer: usize) -> LayerSpec {
        let part = |part, inputs, outputs| linear(&self.names.layer(layer, part), inputs, outputs);
        let head_dim = self.hidden / self.heads.max(1);
        let (hidden, inner) = (self.hidden, self.inner);
        LayerSpec {
            mixer: Mixer::from(AttentionSpec {
                heads: self.heads,
                kv_heads: self.heads,
                head_dim,
                query: part(Part::Query, hidden, hidden),
                kv: KvSpec::Own(Box::new(OwnKv {
                    key: part(Part::Key, hidden, hidden),
                    value: part(Part::Value, hidden, hidden),
                    key_norm: None,
                    value_norm_eps: None,
                })),
                output: part(Part::Output, hidden, hidden),
                query_norm: None,
                norm_scope: NormScope::Head,
                rope: None,
                scale: 1.0 / (head_dim as f32).sqrt(),
                temperature: None,
                window: None,
                soft_cap: None,
                sinks: None,
                gate: None,
            }),
            mixer_norms: SublayerNorms::post(self.norm(&self.names.layer(layer, Part::MixerNorm))),
            mlp: Mlp::Plain {
                up: part(Part::Up, hidden, inner),
                down: part(Part::Down, inner, hidden),
                activation: self.activation,
            },
            mlp_norms: SublayerNorms::post(self.norm(&self.names.layer(layer, Part::MlpNorm))),
            residual_scale: 1.0,
            is_parallel: false,
            laurel: None,
            altup: None,
            per_layer: None,
            output_scale: None,
        }
    }

    fn norm(&self, name: &str) -> NormSpec {
        NormSpec {
            kind: NormKind::Layer,
            eps: self.eps,
            weight: TensorRef::new(format!("{name}.weight")),
            bias: Some(TensorRef::new(format!("{name}.bias"))),
            weight_offset: 0.0,
        }
    }
}

impl EncoderNames {
    /// Returns where tokens, positions, types and the norm of their sum are.
    fn embeddings(&self) -> (String, String, String, String) {
        match self {
            Self::HuggingFace(prefix) => {
                let name = |part: &str| format!("{prefix}embeddings.{part}");
                (
                    name("word_embeddings.weight"),
                    name("position_embeddings.weight"),
                    name("token_type_embeddings.weight"),
                    name("LayerNorm"),
                )
            }
            Self::Gguf => {
                let [table, positions, types, norm] =
                    ["token_embd.weight", "position_embd.weight", "token_types.weight", "token_embd_norm"];
                (table.to_owned(), positions.to_owned(), types.to_owned(), norm.to_owned())
            }
        }
    }

    fn layer(&self, layer: usize, part: Part) -> String {
        match self {
            Self::HuggingFace(prefix) => {
                let part = match part {
                    Part::Query => "attention.self.query",
                    Part::Key => "attention.self.key",
                    Part::Value => "attention.self.value",
                    Part::Output => "attention.output.dense",
                    Part::MixerNorm => "attention.output.LayerNorm",
                    Part::Up => "intermediate.dense",
                    Part::Down => "output.dense",
                    Part::MlpNorm => "output.LayerNorm",
                };
                format!("{prefix}encoder.layer.{layer}.{part}")
            }
            Self::Gguf => {
                let part = match part {
                    Part::Query => "attn_q",
                    Part::Key => "attn_k",
                    Part::Value => "attn_v",
                    Part::Output => "attn_output",
                    Part::MixerNorm => "attn_output_norm",
                    Part::Up => "ffn_up",
                    Part::Down => "ffn_down",
                    Part::MlpNorm => "layer_output_norm",
                };
                format!("blk.{layer}.{part}")
            }
        }
    }
}
