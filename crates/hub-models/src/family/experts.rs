//! What decoders with a mixture of experts have in common.

use hub_nn::spec::{
    Activation, ExpertSpec, ExpertsSpec, GroupsSpec, LinearSpec, Mlp, RoutingSpec, Rows, Scoring, SharedSpec,
    TensorRef,
};

use super::{FamilyError, Keys, decoder::Sizes};

/// The most experts of all layers together that are laid out; far above any real model.
const MAX_EXPERTS: usize = 65_536;

/// A mixture: what the families differ in, with the plainest choice for each.
#[derive(Clone, Debug)]
pub(super) struct Mixture {
    pub(super) names: ExpertNames,
    /// Which layers have one; the others have an MLP.
    pub(super) layers: Vec<bool>,
    pub(super) count: usize,
    pub(super) chosen: usize,
    pub(super) inner: usize,
    pub(super) scoring: Scoring,
    pub(super) has_correction: bool,
    pub(super) groups: Option<GroupsSpec>,
    pub(super) is_normalized: bool,
    pub(super) scale: f32,
    /// Whether the router and the matrices of experts have something added.
    pub(super) has_biases: bool,
    /// The function of the experts, if it is not that of the decoder.
    pub(super) activation: Option<Activation>,
    /// The inner width of what every row goes through besides, and whether something tells how much of it counts.
    pub(super) shared: Option<(usize, bool)>,
}

/// Where the tensors of experts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpertNames {
    /// A tensor for each matrix of each expert: `mlp.experts.7.up_proj`.
    Each,
    /// As `Each`, with the shared ones named in the plural: `mlp.shared_experts.up_proj`.
    Deepseek,
    /// As Qwen3.5 has them: a tensor for gate and up of all experts, and one for down.
    Fused,
    /// As `Fused`, beside the MLP: `layers.0.experts` and `layers.0.router.proj`.
    Gemma,
    /// As Mixtral names those: `block_sparse_moe.experts.7.w3`.
    Mixtral,
    /// As Mistral's own programs name them: `feed_forward.experts.7.w3`.
    Mistral,
    /// As Granite has them: a tensor for gate and up of all experts, and one for down.
    Granite,
    /// As gpt-oss has them: the same with rows of gate and up in turn, and turned over unless they are packed.
    GptOss {
        /// Whether the matrices are packed, each with its scales in another tensor.
        is_packed: bool,
    },
    /// llama.cpp: a tensor for the matrices of all experts.
    Gguf,
    /// llama.cpp, with gate and up of all experts in one tensor.
    GgufFused,
}

/// A matrix of an expert.
#[derive(Clone, Copy)]
enum Matrix {
    Gate,
    Up,
    Down,
}

impl ExpertNames {
    fn layer(self, layer: usize) -> String {
        match self {
            Self::Each | Self::Deepseek | Self::Fused | Self::GptOss { .. } => {
                format!("model.layers.{layer}.mlp")
            }
            Self::Mixtral | Self::Granite => format!("model.layers.{layer}.block_sparse_moe"),
            Self::Gemma => format!("model.layers.{layer}"),
            Self::Mistral => format!("layers.{layer}.feed_forward"),
            Self::Gguf | Self::GgufFused => format!("blk.{layer}"),
        }
    }

    /// Returns the matrix of an expert that has so many rows.
    fn expert(self, layer: usize, expert: usize, matrix: Matrix, rows: usize) -> TensorRef {
        let folder = self.layer(layer);
        let choose = |names: [&'static str; 3]| names[matrix as usize];
        match self {
            Self::Each | Self::Deepseek => {
                let name = choose(["gate_proj", "up_proj", "down_proj"]);
                TensorRef::new(format!("{folder}.experts.{expert}.{name}.weight"))
            }
            Self::Mixtral | Self::Mistral => {
                TensorRef::new(format!("{folder}.experts.{expert}.{}.weight", choose(["w1", "w3", "w2"])))
            }
            Self::Granite | Self::Fused | Self::Gemma | Self::GgufFused => {
                let (both, down) = match self {
                    Self::GgufFused => ("ffn_gate_up_exps.weight", "ffn_down_exps.weight"),
                    Self::Fused | Self::Gemma => ("experts.gate_up_proj", "experts.down_proj"),
                    _ => ("input_linear.weight", "output_linear.weight"),
                };
                let (name, each, at) = match matrix {
                    Matrix::Gate => (both, 2 * rows, 0),
                    Matrix::Up => (both, 2 * rows, rows),
                    Matrix::Down => (down, rows, 0),
                };
                let start = expert * each + at;
                TensorRef::rows(format!("{folder}.{name}"), start..start + rows)
            }
            Self::GptOss { is_packed } => {
                let (name, rows) = gpt_oss(expert, matrix, rows);
                let name = format!("{folder}.experts.{name}");
                if is_packed { TensorRef::rows(name, rows) } else { TensorRef::columns(name, rows) }
            }
            Self::Gguf => {
                let name = choose(["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"]);
                TensorRef::rows(format!("{folder}.{name}.weight"), expert * rows..(expert + 1) * rows)
            }
        }
    }

    /// Returns what is added to a matrix of an expert that has so many rows.
    fn bias(self, layer: usize, expert: usize, matrix: Matrix, rows: usize) -> TensorRef {
        let folder = self.layer(layer);
        if let Self::GptOss { .. } = self {
            let (name, rows) = gpt_oss(expert, matrix, rows);
            return TensorRef::numbers(format!("{folder}.experts.{name}_bias"), rows);
        }
        let name = ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"][matrix as usize];
        TensorRef::numbers(format!("{folder}.{name}.bias"), expert * rows..(expert + 1) * rows)
    }

    /// Returns the name of a part of the router: `kind` is `weight` or `bias`.
    fn router(self, layer: usize, kind: &str) -> String {
        let name = match self {
            Self::Gguf | Self::GgufFused => "ffn_gate_inp",
            Self::Gemma => "router.proj",
            Self::Granite => "router.layer",
            Self::Each | Self::Deepseek | Self::Fused | Self::Mixtral | Self::Mistral => "gate",
            Self::GptOss { .. } => "router",
        };
        format!("{}.{name}.{kind}", self.layer(layer))
    }

    fn correction(self, layer: usize) -> String {
        let name = if self == Self::Gguf { "exp_probs_b.bias" } else { "gate.e_score_correction_bias" };
        format!("{}.{name}", self.layer(layer))
    }

    /// Returns a matrix of what every row goes through besides, that has so many rows.
    fn shared(self, layer: usize, matrix: Matrix, rows: usize) -> TensorRef {
        let choose = |names: [&'static str; 3]| names[matrix as usize];
        if self == Self::Granite {
            let folder = format!("model.layers.{layer}.shared_mlp");
            let input = format!("{folder}.input_linear.weight");
            return match matrix {
                Matrix::Gate => TensorRef::rows(input, 0..rows),
                Matrix::Up => TensorRef::rows(input, rows..2 * rows),
                Matrix::Down => TensorRef::new(format!("{folder}.output_linear.weight")),
            };
        }
        let name = match self {
            Self::Gguf => choose(["ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"]),
            Self::Deepseek => {
                choose(["shared_experts.gate_proj", "shared_experts.up_proj", "shared_experts.down_proj"])
            }
            _ => choose(["shared_expert.gate_proj", "shared_expert.up_proj", "shared_expert.down_proj"]),
        };
        TensorRef::new(format!("{}.{name}.weight", self.layer(layer)))
    }

    fn shared_gate(self, layer: usize) -> String {
        let name = if self == Self::Gguf { "ffn_gate_inp_shexp" } else { "shared_expert_gate" };
        format!("{}.{name}.weight", self.layer(layer))
    }
}

/// Returns the tensor of a matrix of an expert of gpt-oss, and which of its rows that is.
fn gpt_oss(expert: usize, matrix: Matrix, rows: usize) -> (&'static str, Rows) {
    let in_turn = |at: usize| Rows { start: expert * 2 * rows + at, len: 1, step: 2, count: rows };
    match matrix {
        Matrix::Gate => ("gate_up_proj", in_turn(0)),
        Matrix::Up => ("gate_up_proj", in_turn(1)),
        Matrix::Down => ("down_proj", Rows::from(expert * rows..(expert + 1) * rows)),
    }
}

impl Mixture {
    /// A mixture in every layer, by the softmax of the chosen experts.
    pub(super) fn new(
        names: ExpertNames,
        layers: usize,
        (count, chosen, inner): (usize, usize, usize),
    ) -> Self {
        Self {
            names,
            layers: vec![true; layers],
            count,
            chosen,
            inner,
            scoring: Scoring::Softmax,
            has_correction: false,
            groups: None,
            is_normalized: true,
            scale: 1.0,
            has_biases: false,
            activation: None,
            shared: None,
        }
    }

    /// Reads the sizes that GGUF metadata names; `None` if it names no experts.
    pub(super) fn from_gguf(keys: &Keys<'_>, sizes: &Sizes) -> Result<Option<Self>, FamilyError> {
        if keys.maybe_size("expert_count")?.unwrap_or(0) == 0 {
            keys.skip("expert_used_count");
            return Ok(None);
        }
        let inner = keys.maybe_size("expert_feed_forward_length")?.unwrap_or(sizes.inner);
        let count = count(keys, "expert_count", sizes.layers)?;
        let all = (count, keys.size("expert_used_count")?, inner);
        Ok(Some(Self::new(ExpertNames::Gguf, sizes.layers, all)))
    }

    /// Lays out a layer; `None` if it has no mixture.
    pub(super) fn mlp(&self, layer: usize, hidden: usize, activation: Activation) -> Option<Mlp> {
        self.layers.get(layer).copied().filter(|has| *has)?;
        let linear = |weight, inputs, outputs| LinearSpec { weight, bias: None, inputs, outputs };
        let named = |name: String, inputs, outputs| linear(TensorRef::new(name), inputs, outputs);
        let Self { names, count, inner, has_biases, .. } = *self;
        let part = |expert, matrix, inputs, outputs| LinearSpec {
            bias: has_biases.then(|| names.bias(layer, expert, matrix, outputs)),
            ..linear(names.expert(layer, expert, matrix, outputs), inputs, outputs)
        };
        let expert = |expert| ExpertSpec {
            gate: part(expert, Matrix::Gate, hidden, inner),
            up: part(expert, Matrix::Up, hidden, inner),
            down: part(expert, Matrix::Down, inner, hidden),
        };
        let router = LinearSpec {
            bias: has_biases.then(|| TensorRef::new(names.router(layer, "bias"))),
            ..named(names.router(layer, "weight"), hidden, count)
        };
        let shared = self.shared.map(|(inner, is_gated)| SharedSpec {
            mlp: Box::new(Mlp::Gated {
                gate: linear(names.shared(layer, Matrix::Gate, inner), hidden, inner),
                up: linear(names.shared(layer, Matrix::Up, inner), hidden, inner),
                down: linear(names.shared(layer, Matrix::Down, hidden), inner, hidden),
                activation,
                sparsity: None,
            }),
            gate: is_gated.then(|| linear(TensorRef::whole(names.shared_gate(layer)), hidden, 1)),
        });
        Some(Mlp::Experts(Box::new(ExpertsSpec {
            router,
            routing: RoutingSpec {
                chosen: self.chosen,
                scoring: self.scoring,
                correction: self.has_correction.then(|| TensorRef::new(names.correction(layer))),
                groups: self.groups,
                is_normalized: self.is_normalized,
                scale: self.scale,
                score_scale: 1.0,
                expert_scale: None,
            },
            experts: (0..count).map(expert).collect(),
            activation: self.activation.unwrap_or(activation),
            shared,
            apart: None,
        })))
    }
}

/// Reads a number of experts under the name that a family has for it, or under the one that transformers 5 may write.
pub(super) fn count_under(keys: &Keys<'_>, own: &str, layers: usize) -> Result<usize, FamilyError> {
    let newer = "num_local_experts";
    keys.skip(own);
    let name = if keys.maybe_size(newer)?.is_some() { newer } else { own };
    count(keys, name, layers)
}

/// Reads a number of experts, before anything is laid out for each.
pub(super) fn count(keys: &Keys<'_>, key: &str, layers: usize) -> Result<usize, FamilyError> {
    let count = keys.size(key)?;
    if count == 0 || count.saturating_mul(layers) > MAX_EXPERTS {
        return Err(keys.bad(key, "at least one, and at most 65536 in all layers"));
    }
    Ok(count)
}
