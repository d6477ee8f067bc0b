//! What decoders with gated delta nets in place of attention have in common: Qwen3-Next and Qwen3.5.

use hub_nn::spec::{
    ConvSpec, ConvolvedSpec, Gating, KeyOrder, LinearSpec, Mixer, NormKind, NormSpec, RateForm,
    RecurrentSpec, Rows, Rule, TensorRef,
};

use super::{FamilyError, Keys, decoder::Sizes};

/// The sizes of the nets, and which layers have one.
pub(super) struct DeltaNet {
    heads: usize,
    key_heads: usize,
    key_dim: usize,
    value_dim: usize,
    kernel: usize,
    /// Which layers have attention instead.
    is_attention: Vec<bool>,
}

/// Where the tensors of a net are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NetNames {
    /// Qwen3-Next: queries, keys, values and gates of each key head after another in one tensor.
    Interleaved,
    /// Qwen3.5: queries, keys and values in one tensor, the rest in one each.
    Apart,
    /// llama.cpp for Qwen3-Next: as `Apart`, with steps and betas of each key head after another.
    GgufInterleaved,
    /// llama.cpp for Qwen3.5: as `Apart`, with the heads of all keys in turn.
    Gguf,
}

impl DeltaNet {
    /// Reads what `config.json` says.
    pub(super) fn from_config(keys: &Keys<'_>, layers: usize) -> Result<Self, FamilyError> {
        let interval = keys.maybe_size("full_attention_interval")?.unwrap_or(4);
        let is_attention = match keys.texts("layer_types")? {
            Some(types) if types.len() != layers => {
                return Err(keys.bad("layer_types", "one entry for each of `num_hidden_layers`"));
            }
            Some(types) => {
                let read = |kind: &&str| match *kind {
                    "full_attention" => Ok(true),
                    "linear_attention" => Ok(false),
                    _ => Err(keys.unsupported("layer_types", "full_attention and linear_attention")),
                };
                types.iter().map(read).collect::<Result<_, _>>()?
            }
            None => every(interval, layers),
        };
        Self {
            heads: keys.size("linear_num_value_heads")?,
            key_heads: keys.size("linear_num_key_heads")?,
            key_dim: keys.size("linear_key_head_dim")?,
            value_dim: keys.size("linear_value_head_dim")?,
            kernel: keys.size("linear_conv_kernel_dim")?,
            is_attention,
        }
        .checked(keys, "linear_num_value_heads", "linear_num_key_heads")
    }

    /// Reads what GGUF metadata says.
    pub(super) fn from_gguf(keys: &Keys<'_>, layers: usize) -> Result<Self, FamilyError> {
        let interval = keys.maybe_size("full_attention_interval")?.unwrap_or(4);
        let is_attention = match keys.layered_flags("attention.recurrent_layers", layers)? {
            Some(flags) => flags.into_iter().map(|is_recurrent| !is_recurrent).collect(),
            None => every(interval, layers),
        };
        let heads = keys.size("ssm.time_step_rank")?;
        Self {
            heads,
            key_heads: keys.size("ssm.group_count")?,
            key_dim: keys.size("ssm.state_size")?,
            value_dim: keys.size("ssm.inner_size")? / heads.max(1),
            kernel: keys.size("ssm.conv_kernel")?,
            is_attention,
        }
        .checked(keys, "ssm.time_step_rank", "ssm.group_count")
    }

    fn checked(self, keys: &Keys<'_>, key: &str, divisor: &str) -> Result<Self, FamilyError> {
        if self.key_heads == 0 || !self.heads.is_multiple_of(self.key_heads) {
            return Err(keys.bad(key, &format!("a multiple of `{divisor}`")));
        }
        Ok(self)
    }

    /// Lays out the nets, layer by layer.
    pub(super) fn mixers(&self, names: NetNames, sizes: &Sizes) -> Vec<Option<Mixer>> {
        let net = |layer| Mixer::Recurrent(Box::new(self.net(layer, names, sizes)));
        (0..sizes.layers).map(|layer| (!self.is_attention[layer]).then(|| net(layer))).collect()
    }

    fn net(&self, layer: usize, names: NetNames, sizes: &Sizes) -> RecurrentSpec {
        let Self { heads, key_heads, key_dim, value_dim, kernel, .. } = *self;
        let (keys, inner) = (key_heads * key_dim, heads * value_dim);
        let linear =
            |weight: TensorRef, outputs| LinearSpec { weight, bias: None, inputs: sizes.hidden, outputs };
        let convolved = |part: Part, start: usize, channels: usize| ConvolvedSpec {
            linear: linear(self.part(layer, names, part), channels),
            conv: ConvSpec {
                weight: TensorRef::rows(names.conv(layer), start..start + channels),
                bias: None,
                channels,
                kernel,
            },
        };
        RecurrentSpec {
            heads,
            key_heads,
            key_order: if names == NetNames::Gguf { KeyOrder::Tiled } else { KeyOrder::Grouped },
            key_dim,
            value_dim,
            query: convolved(Part::Query, 0, keys),
            key: convolved(Part::Key, keys, keys),
            value: convolved(Part::Value, 2 * keys, inner),
            gate: linear(self.part(layer, names, Part::Gate), inner),
            step: linear(self.part(layer, names, Part::Step), heads),
            step_bias: TensorRef::new(names.step_bias(layer)),
            step_limits: None,
            rate: TensorRef::new(names.rate(layer)),
            rate_form: if names.is_gguf() { RateForm::Negative } else { RateForm::Log },
            rule: Rule::Delta { beta: linear(self.part(layer, names, Part::Beta), heads) },
            norm: NormSpec {
                kind: NormKind::Rms,
                eps: sizes.eps,
                weight: TensorRef::new(names.layer(layer, "norm.weight", "ssm_norm.weight")),
                bias: None,
                weight_offset: 0.0,
            },
            gating: Gating::NormFirst,
            output: LinearSpec {
                weight: TensorRef::new(names.layer(layer, "out_proj.weight", "ssm_out.weight")),
                bias: None,
                inputs: inner,
                outputs: sizes.hidden,
            },
        }
    }

    /// Returns where a part of what a row is multiplied with is.
    fn part(&self, layer: usize, names: NetNames, part: Part) -> TensorRef {
        let Self { heads, key_heads, key_dim, value_dim, .. } = *self;
        let (group, keys) = (heads / key_heads, key_heads * key_dim);
        // The rows of a part within those of each key head.
        let within = |name: String, start: usize, len: usize, step: usize| {
            TensorRef::rows(name, Rows { start, len, step, count: key_heads })
        };
        let values = group * value_dim;
        match (part, names) {
            (Part::Step | Part::Beta, NetNames::Interleaved | NetNames::GgufInterleaved) => {
                let start = if let Part::Step = part { group } else { 0 };
                within(names.layer(layer, "in_proj_ba.weight", "ssm_ba.weight"), start, group, 2 * group)
            }
            (Part::Step, _) => TensorRef::new(names.layer(layer, "in_proj_a.weight", "ssm_alpha.weight")),
            (Part::Beta, _) => TensorRef::new(names.layer(layer, "in_proj_b.weight", "ssm_beta.weight")),
            (_, NetNames::Interleaved) => {
                let (start, len) = match part {
                    Part::Query => (0, key_dim),
                    Part::Key => (key_dim, key_dim),
                    Part::Value => (2 * key_dim, values),
                    _ => (2 * key_dim + values, values),
                };
                let name = names.layer(layer, "in_proj_qkvz.weight", "");
                within(name, start, len, 2 * (key_dim + values))
            }
            (Part::Gate, _) => TensorRef::new(names.layer(layer, "in_proj_z.weight", "attn_gate.weight")),
            _ => {
                let rows = match part {
                    Part::Query => 0..keys,
                    Part::Key => keys..2 * keys,
                    _ => 2 * keys..2 * keys + heads * value_dim,
                };
                TensorRef::rows(names.layer(layer, "in_proj_qkv.weight", "attn_qkv.weight"), rows)
            }
        }
    }
}

/// A part of what a row is multiplied with.
#[derive(Clone, Copy)]
enum Part {
    Query,
    Key,
    Value,
    Gate,
    Step,
    Beta,
}

impl NetNames {
    fn is_gguf(self) -> bool {
        matches!(self, Self::Gguf | Self::GgufInterleaved)
    }

    fn layer(self, layer: usize, hugging_face: &str, gguf: &str) -> String {
        match self.is_gguf() {
            true => format!("blk.{layer}.{gguf}"),
            false => format!("model.layers.{layer}.linear_attn.{hugging_face}"),
        }
    }

    fn conv(self, layer: usize) -> String {
        self.layer(layer, "conv1d.weight", "ssm_conv1d.weight")
    }

    fn step_bias(self, layer: usize) -> String {
        self.layer(layer, "dt_bias", "ssm_dt.bias")
    }

    fn rate(self, layer: usize) -> String {
        self.layer(layer, "A_log", "ssm_a")
    }
}

/// Returns which layers have attention where every `interval`-th has.
fn every(interval: usize, layers: usize) -> Vec<bool> {
    (1..=layers).map(|layer| interval > 0 && layer.is_multiple_of(interval)).collect()
}
