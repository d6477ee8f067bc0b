//! What Gemma 3n and the small Gemmas 4 have in common: a second embedding, of which every layer has a part, and layers
//! that read the keys and values of others.

use hub_nn::spec::{
    Activation, KvSpec, LinearSpec, Mixer, ModelSpec, NormKind, NormSpec, PerLayerEmbedding, PerLayerSpec,
    TensorRef,
};

use super::{FamilyError, Files, Keys};

/// How the tensors are named, and what their shapes and norms are.
pub(super) struct Small {
    pub(super) is_gguf: bool,
    pub(super) hidden: usize,
    pub(super) layers: usize,
    pub(super) eps: f32,
    pub(super) activation: Activation,
}

impl Small {
    /// Returns the name of a layer's tensor.
    pub(super) fn name(&self, layer: usize, hugging_face: &str, gguf: &str) -> String {
        match self.is_gguf {
            true => format!("blk.{layer}.{gguf}"),
            false => format!("model.layers.{layer}.{hugging_face}"),
        }
    }

    pub(super) fn linear(&self, weight: String, inputs: usize, outputs: usize) -> LinearSpec {
        LinearSpec { weight: TensorRef::new(weight), bias: None, inputs, outputs }
    }

    pub(super) fn norm(&self, weight: String) -> NormSpec {
        NormSpec {
            kind: NormKind::Rms,
            eps: self.eps,
            weight: TensorRef::new(weight),
            bias: None,
            weight_offset: 0.0,
        }
    }

    /// What a layer does with its part, `width` numbers wide.
    pub(super) fn part(&self, layer: usize, width: usize) -> PerLayerSpec {
        let name = |hugging_face, gguf| self.name(layer, hugging_face, gguf);
        let gate = name("per_layer_input_gate.weight", "inp_gate.weight");
        let projection = name("per_layer_projection.weight", "proj.weight");
        PerLayerSpec {
            gate: self.linear(gate, self.hidden, width),
            activation: self.activation,
            projection: self.linear(projection, width, self.hidden),
            norm: self.norm(name("post_per_layer_input_norm.weight", "post_norm.weight")),
        }
    }

    /// The second embedding, which knows `vocab_size` tokens.
    pub(super) fn second_embedding(&self, width: usize, vocab_size: usize) -> PerLayerEmbedding {
        let name = |hugging_face: &str, gguf: &str| match self.is_gguf {
            true => format!("{gguf}.weight"),
            false => format!("model.{hugging_face}.weight"),
        };
        let projection = name("per_layer_model_projection", "per_layer_model_proj");
        PerLayerEmbedding {
            width,
            vocab_size,
            other_token: None,
            table: TensorRef::new(name("embed_tokens_per_layer", "per_layer_token_embd")),
            table_scale: (width as f32).sqrt(),
            projection: self.linear(projection, self.hidden, width.saturating_mul(self.layers)),
            projection_scale: 1.0 / (self.hidden as f32).sqrt(),
            norm: self.norm(name("per_layer_projection_norm", "per_layer_proj_norm")),
            scale: std::f32::consts::FRAC_1_SQRT_2,
        }
    }
}

/// Reads how many layers at the end read the keys and values of others.
pub(super) fn shared_layers(keys: &Keys<'_>, key: &str, layers: usize) -> Result<usize, FamilyError> {
    match keys.maybe_size(key)?.unwrap_or(0) {
        shared if shared < layers => Ok(shared),
        _ => Err(keys.bad(key, "fewer than there are layers")),
    }
}

/// Lets the last `shared` layers read the keys and values of the last one before them that sees as far.
pub(super) fn share(spec: &mut ModelSpec, shared: usize, is_windowed: &[bool], files: &Files<'_>) {
    let first = spec.layers.len() - shared;
    for layer in first..spec.layers.len() {
        let is_alike = |other: &usize| is_windowed[*other] == is_windowed[layer];
        // Where none is alike, the specification's own check says so.
        let keeper = (0..first).rev().find(is_alike).unwrap_or(0);
        if let Mixer::Attention(attention) = &mut spec.layers[layer].mixer {
            attention.kv = KvSpec::Of(keeper);
        }
    }
    // What those layers would make their own with.
    let is_unused = |name: &str| {
        let parts = ["k_proj", "v_proj", "k_norm", "v_norm", "attn_k", "attn_v", "attn_k_norm"];
        let layer = name.split('.').find_map(|part| part.parse::<usize>().ok());
        layer.is_some_and(|layer| layer >= first) && name.split('.').any(|part| parts.contains(&part))
    };
    spec.left_out.extend(files.left_out("another layer's keys and values are read", is_unused));
}
