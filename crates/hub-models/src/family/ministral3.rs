//! Ministral 3: as Mistral, with queries that grow with their position, and YaRN.

use hub_nn::spec::{ModelSpec, Pairing, QueryTemperature, RopeScaling};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Biases, Decoder, Sizes, activation},
    keys::DefaultValue,
    names::Names,
    rope::{self, RopeShape},
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "ministral3",
    architectures: &["Ministral3ForCausalLM"],
    model_types: &["ministral3"],
    defaults: &[
        ("head_dim", DefaultValue::Whole(128)),
        ("hidden_act", DefaultValue::Text("silu")),
        ("max_position_embeddings", DefaultValue::Whole(262_144)),
        ("num_key_value_heads", DefaultValue::Whole(8)),
        ("rms_norm_eps", DefaultValue::Number(1e-5)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "mistral3", read: Some(from_gguf), write: Some(written::tempered) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let parameters = keys.below("rope_parameters")?.ok_or_else(|| keys.missing("rope_parameters"))?;
    let beta = parameters.number("llama_4_scaling_beta")?;
    let every = parameters.size("original_max_position_embeddings")?;
    // Said twice.
    parameters.skip("max_position_embeddings");
    let rope = rope::from_parameters(keys, &parameters, 1_000_000.0, RopeShape::of(&sizes))?;
    let decoder = Decoder {
        activation: activation(keys, "hidden_act")?,
        temperature: Some(QueryTemperature { beta, every }),
        is_tied: keys.flag("tie_word_embeddings", false)?,
        ..Decoder::new(Names::HUGGING_FACE, sizes, keys.maybe_size("sliding_window")?, rope)
    };
    Ok(decoder.spec("ministral3", files))
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let log_multiplier = keys.maybe_number("rope.scaling.yarn_log_multiplier")?.unwrap_or(0.0);
    let mut rope = rope::from_gguf(keys, files, Pairing::Interleaved, RopeShape::of(&sizes))?;
    let mut every = sizes.context;
    if let RopeScaling::Yarn(yarn) = &mut rope.scaling {
        every = yarn.original_tokens;
        // Both of YaRN's multipliers are the same then, and one is divided by the other.
        if log_multiplier != 0.0 {
            yarn.attention_factor = 1.0;
        }
    }
    let beta = keys.maybe_number("attention.temperature_scale")?;
    let decoder = Decoder {
        biases: Biases::in_gguf(files),
        temperature: beta.map(|beta| QueryTemperature { beta, every }),
        is_tied: !files.has(Names::GGUF.head()),
        ..Decoder::new(Names::GGUF, sizes, None, rope)
    };
    Ok(decoder.spec("ministral3", files))
}
