//! gpt-oss: attention with sinks and, in every other layer, a window; experts with biases and a clamped SwiGLU.

use hub_nn::spec::{Activation, ModelSpec, Pairing, RopeScaling};

use hub_nn::weights::WeightKind;

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Biases, Decoder, Sizes, windowed_layers},
    experts::{self, ExpertNames, Mixture},
    keys::DefaultValue,
    names::Names,
    rope::{self, RopeShape},
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "gpt-oss",
    architectures: &["GptOssForCausalLM"],
    model_types: &["gpt_oss"],
    defaults: &[
        ("head_dim", DefaultValue::Whole(64)),
        ("hidden_act", DefaultValue::Text("silu")),
        ("max_position_embeddings", DefaultValue::Whole(131_072)),
        ("num_experts_per_tok", DefaultValue::Whole(4)),
        ("num_key_value_heads", DefaultValue::Whole(8)),
        ("num_local_experts", DefaultValue::Whole(128)),
        ("rms_norm_eps", DefaultValue::Number(1e-5)),
        ("sliding_window", DefaultValue::Whole(128)),
        ("swiglu_alpha", DefaultValue::Number(SLOPE)),
        ("swiglu_limit", DefaultValue::Number(LIMIT)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "gpt-oss", read: Some(from_gguf), write: Some(written::plain) }),
};

/// What GGUF files do not say of the function of the experts.
const SLOPE: f64 = 1.702;
const LIMIT: f64 = 7.0;

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let layers = sizes.layers;
    keys.only("hidden_act", "silu")?;
    let rope = rope::from_config(keys, RopeShape { default_base: 150_000.0, ..RopeShape::of(&sizes) })?;
    let has_bias = keys.flag("attention_bias", true)?;
    // What transformers writes beside the list, for other programs.
    keys.skip("experts_per_token");
    keys.skip("initial_context_length");
    let is_packed = files.kind("model.layers.0.mlp.experts.gate_up_proj") == Some(WeightKind::MXFP4);
    let all =
        (experts::count(keys, "num_local_experts", layers)?, keys.size("num_experts_per_tok")?, sizes.inner);
    let activation =
        Activation::ClampedSwish { slope: keys.number("swiglu_alpha")?, limit: keys.number("swiglu_limit")? };
    let mut decoder = Decoder {
        biases: Biases::of_attention(has_bias),
        experts: Some(mixture(ExpertNames::GptOss { is_packed }, layers, all, activation)),
        has_sinks: true,
        is_tied: keys.flag("tie_word_embeddings", false)?,
        ..Decoder::new(Names::HUGGING_FACE, sizes, None, rope)
    };
    let windowed = windowed_layers(keys, layers)?;
    let windowed = windowed.unwrap_or_else(|| every_other(layers));
    decoder.window_if(keys.maybe_size("sliding_window")?, &windowed);
    Ok(decoder.spec("gpt-oss", files))
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let layers = sizes.layers;
    let mut rope = rope::from_gguf(keys, files, Pairing::Halves, RopeShape::of(&sizes))?;
    if let RopeScaling::Yarn(yarn) = &mut rope.scaling {
        // The files do not say it, and all released models have it so.
        yarn.truncate = false;
    }
    let activation = Activation::ClampedSwish { slope: SLOPE as f32, limit: LIMIT as f32 };
    let experts = Mixture::from_gguf(keys, &sizes)?.ok_or_else(|| keys.missing("expert_count"))?;
    let all = (experts.count, experts.chosen, experts.inner);
    let mut decoder = Decoder {
        biases: Biases::in_gguf(files),
        experts: Some(mixture(ExpertNames::Gguf, layers, all, activation)),
        has_sinks: true,
        is_tied: !files.has(Names::GGUF.head()),
        ..Decoder::new(Names::GGUF_AFTER, sizes, None, rope)
    };
    decoder.window_if(keys.maybe_size("attention.sliding_window")?, &every_other(layers));
    Ok(decoder.spec("gpt-oss", files))
}

fn mixture(names: ExpertNames, layers: usize, all: (usize, usize, usize), activation: Activation) -> Mixture {
    Mixture { has_biases: true, activation: Some(activation), ..Mixture::new(names, layers, all) }
}

/// Returns which layers have a window: the first, the third, and so on.
fn every_other(layers: usize) -> Vec<bool> {
    (0..layers).map(|layer| layer.is_multiple_of(2)).collect()
}
