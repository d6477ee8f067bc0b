//! Where the tensors of a decoder are. What a family calls otherwise stands in its own file.

/// A part of one layer of a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    MixerNorm,
    Query,
    Key,
    Value,
    /// Query, key and value in one tensor.
    QueryKeyValue,
    QueryNorm,
    KeyNorm,
    Output,
    /// After attention, before the residual.
    MixerAfterNorm,
    MlpNorm,
    Gate,
    Up,
    /// Gate and up in one tensor.
    GateUp,
    Down,
    /// Of an MLP without a gate.
    PlainUp,
    PlainDown,
    /// After the MLP, before the residual.
    MlpAfterNorm,
}

/// How the tensors of a decoder are called: as one program calls them, but for what a family calls otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    origin: Origin,
    /// Parts of layers under the names that a family has for them.
    parts: &'static [(Part, &'static str)],
    /// The last norm, if it has another name.
    final_norm: Option<&'static str>,
}

/// Who named the tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    HuggingFace,
    Mistral,
    Gguf,
}

impl Names {
    /// `transformers`.
    pub(super) const HUGGING_FACE: Self = Self::of(Origin::HuggingFace);
    /// Mistral's own programs.
    pub(super) const MISTRAL: Self = Self::of(Origin::Mistral);
    /// llama.cpp.
    pub(super) const GGUF: Self = Self::of(Origin::Gguf);
    /// llama.cpp, where the norm before the MLP is named as if it came after attention.
    pub(super) const GGUF_AFTER: Self = Self::GGUF.with(&[(Part::MlpNorm, "post_attention_norm")]);

    const fn of(origin: Origin) -> Self {
        Self { origin, parts: &[], final_norm: None }
    }

    /// The same, but for some parts of layers.
    pub(super) const fn with(self, parts: &'static [(Part, &'static str)]) -> Self {
        Self { parts, ..self }
    }

    /// The same, but for the last norm.
    pub(super) const fn with_final_norm(self, name: &'static str) -> Self {
        Self { final_norm: Some(name), ..self }
    }

    pub(super) fn is_gguf(self) -> bool {
        self.origin == Origin::Gguf
    }

    pub(super) fn table(self) -> &'static str {
        match self.origin {
            Origin::HuggingFace => "model.embed_tokens.weight",
            Origin::Mistral => "tok_embeddings.weight",
            Origin::Gguf => "token_embd.weight",
        }
    }

    /// Returns the name of the last norm's tensor: `kind` is `weight` or `bias`.
    pub(super) fn final_norm(self, kind: &str) -> String {
        let name = self.final_norm.unwrap_or(match self.origin {
            Origin::HuggingFace => "model.norm",
            Origin::Mistral => "norm",
            Origin::Gguf => "output_norm",
        });
        format!("{name}.{kind}")
    }

    pub(super) fn head(self) -> &'static str {
        match self.origin {
            Origin::HuggingFace => "lm_head.weight",
            Origin::Mistral | Origin::Gguf => "output.weight",
        }
    }

    /// Returns the name of the scores beside those of a layer's keys.
    pub(super) fn sinks(self, layer: usize) -> String {
        if self.is_gguf() {
            format!("blk.{layer}.attn_sinks.weight")
        } else {
            format!("model.layers.{layer}.self_attn.sinks")
        }
    }

    /// Returns the name of a layer's tensor: `kind` is `weight` or `bias`.
    pub(super) fn layer(self, layer: usize, part: Part, kind: &str) -> String {
        let own = self.parts.iter().find(|(known, _)| *known == part).map(|(_, name)| *name);
        match self.origin {
            Origin::HuggingFace => {
                format!("model.layers.{layer}.{}.{kind}", own.unwrap_or_else(|| hugging_face(part)))
            }
            Origin::Mistral => format!("layers.{layer}.{}.{kind}", own.unwrap_or_else(|| mistral(part))),
            Origin::Gguf => format!("blk.{layer}.{}.{kind}", own.unwrap_or_else(|| gguf(part))),
        }
    }
}

fn hugging_face(part: Part) -> &'static str {
    match part {
        Part::MixerNorm => "input_layernorm",
        Part::Query => "self_attn.q_proj",
        Part::Key => "self_attn.k_proj",
        Part::Value => "self_attn.v_proj",
        Part::QueryKeyValue => "self_attn.qkv_proj",
        Part::QueryNorm => "self_attn.q_norm",
        Part::KeyNorm => "self_attn.k_norm",
        Part::Output => "self_attn.o_proj",
        // Where there is no norm after a sublayer, the one between the two is named as if it were.
        Part::MlpNorm | Part::MixerAfterNorm => "post_attention_layernorm",
        Part::MlpAfterNorm => "post_feedforward_layernorm",
        Part::Gate => "mlp.gate_proj",
        Part::Up => "mlp.up_proj",
        Part::GateUp => "mlp.gate_up_proj",
        Part::Down => "mlp.down_proj",
        Part::PlainUp => "mlp.c_fc",
        Part::PlainDown => "mlp.c_proj",
    }
}

fn mistral(part: Part) -> &'static str {
    match part {
        Part::MixerNorm => "attention_norm",
        Part::Query => "attention.wq",
        Part::Key => "attention.wk",
        Part::Value => "attention.wv",
        Part::Output => "attention.wo",
        Part::MlpNorm => "ffn_norm",
        Part::Gate => "feed_forward.w1",
        Part::Up => "feed_forward.w3",
        Part::Down => "feed_forward.w2",
        part => hugging_face(part),
    }
}

fn gguf(part: Part) -> &'static str {
    match part {
        Part::MixerNorm => "attn_norm",
        Part::Query => "attn_q",
        Part::Key => "attn_k",
        Part::Value => "attn_v",
        Part::QueryKeyValue => "attn_qkv",
        Part::QueryNorm => "attn_q_norm",
        Part::KeyNorm => "attn_k_norm",
        Part::Output => "attn_output",
        Part::MixerAfterNorm => "post_attention_norm",
        Part::MlpNorm => "ffn_norm",
        Part::Gate => "ffn_gate",
        Part::Up | Part::GateUp | Part::PlainUp => "ffn_up",
        Part::Down | Part::PlainDown => "ffn_down",
        Part::MlpAfterNorm => "post_ffw_norm",
    }
}
