//! Mixtral: as Mistral, with a mixture of experts in every layer. Its GGUF files go under Llama's name.

use hub_nn::spec::ModelSpec;

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Decoder, Sizes, activation},
    experts::{self, ExpertNames, Mixture},
    keys::DefaultValue,
    names::Names,
    rope::{self, RopeShape},
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "mixtral",
    architectures: &["MixtralForCausalLM"],
    model_types: &["mixtral"],
    defaults: &[
        ("hidden_act", DefaultValue::Text("silu")),
        ("max_position_embeddings", DefaultValue::Whole(131_072)),
        ("num_experts_per_tok", DefaultValue::Whole(2)),
        ("num_key_value_heads", DefaultValue::Whole(8)),
        ("num_local_experts", DefaultValue::Whole(8)),
        ("rms_norm_eps", DefaultValue::Number(1e-5)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "llama", read: None, write: Some(written::plain) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let rope = rope::from_config(keys, RopeShape::of(&sizes))?;
    let count = experts::count(keys, "num_local_experts", sizes.layers)?;
    let all = (count, keys.size("num_experts_per_tok")?, sizes.inner);
    let decoder = Decoder {
        activation: activation(keys, "hidden_act")?,
        experts: Some(Mixture::new(ExpertNames::Mixtral, sizes.layers, all)),
        is_tied: keys.flag("tie_word_embeddings", false)?,
        ..Decoder::new(Names::HUGGING_FACE, sizes, keys.maybe_size("sliding_window")?, rope)
    };
    Ok(decoder.spec("mixtral", files))
}
