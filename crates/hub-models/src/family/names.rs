//! Where the tensors of a decoder are, in the two ways files name them.

/// A part of one layer of a decoder.
#[derive(Clone, Copy)]
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

/// Who named the tensors.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// `transformers`.
    HuggingFace,
    /// `transformers`, for layers with norms on both sides: the same name means another norm there.
    HuggingFaceSandwich,
    /// `transformers`, for GLM-4, which has norms on both sides too.
    HuggingFaceGlm,
    /// `transformers`, for Granite 4 without experts, whose MLP is named as what experts share.
    GraniteDense,
    /// `transformers`, for LFM2.
    Lfm2,
    /// Mistral's own programs.
    Mistral,
    /// llama.cpp.
    Gguf,
    /// llama.cpp, where the norm before the MLP is named as if it came after attention.
    GgufAfter,
    /// llama.cpp, for LFM2: the last norm is named as if it came after the embedding.
    GgufLfm2,
}

impl Names {
    fn is_gguf(self) -> bool {
        matches!(self, Self::Gguf | Self::GgufAfter | Self::GgufLfm2)
    }

    pub(super) fn table(self) -> &'static str {
        match self {
            Self::Mistral => "tok_embeddings.weight",
            _ if self.is_gguf() => "token_embd.weight",
            _ => "model.embed_tokens.weight",
        }
    }

    /// Returns the name of the last norm's tensor: `kind` is `weight` or `bias`.
    pub(super) fn final_norm(self, kind: &str) -> String {
        let name = match self {
            Self::GgufLfm2 => "token_embd_norm",
            Self::Lfm2 => "model.embedding_norm",
            Self::Mistral => "norm",
            _ if self.is_gguf() => "output_norm",
            _ => "model.norm",
        };
        format!("{name}.{kind}")
    }

    pub(super) fn head(self) -> &'static str {
        if self.is_gguf() || self == Self::Mistral { "output.weight" } else { "lm_head.weight" }
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
        match self {
            Self::Gguf | Self::GgufLfm2 => format!("blk.{layer}.{}.{kind}", gguf(part)),
            Self::Mistral => format!("layers.{layer}.{}.{kind}", mistral(part)),
            Self::GraniteDense => {
                let part = match part {
                    Part::GateUp => "shared_mlp.input_linear",
                    Part::Down => "shared_mlp.output_linear",
                    part => hugging_face(part),
                };
                format!("model.layers.{layer}.{part}.{kind}")
            }
            Self::Lfm2 => {
                let part = match part {
                    Part::MixerNorm => "operator_norm",
                    Part::MlpNorm => "ffn_norm",
                    Part::Output => "self_attn.out_proj",
                    Part::QueryNorm => "self_attn.q_layernorm",
                    Part::KeyNorm => "self_attn.k_layernorm",
                    Part::Gate => "feed_forward.w1",
                    Part::Up => "feed_forward.w3",
                    Part::Down => "feed_forward.w2",
                    part => hugging_face(part),
                };
                format!("model.layers.{layer}.{part}.{kind}")
            }
            Self::GgufAfter => {
                let part = if matches!(part, Part::MlpNorm) { Part::MixerAfterNorm } else { part };
                format!("blk.{layer}.{}.{kind}", gguf(part))
            }
            Self::HuggingFaceGlm => {
                let part = match part {
                    Part::MixerAfterNorm => "post_self_attn_layernorm",
                    Part::MlpNorm => "post_attention_layernorm",
                    Part::MlpAfterNorm => "post_mlp_layernorm",
                    part => hugging_face(part),
                };
                format!("model.layers.{layer}.{part}.{kind}")
            }
            Self::HuggingFace => format!("model.layers.{layer}.{}.{kind}", hugging_face(part)),
            Self::HuggingFaceSandwich => {
                let part = match part {
                    Part::MlpNorm => "pre_feedforward_layernorm",
                    part => hugging_face(part),
                };
                format!("model.layers.{layer}.{part}.{kind}")
            }
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
