//! OLMo 3: as OLMo 2, with windows in most layers. Its GGUF files go under OLMo 2's name.

use hub_nn::spec::ModelSpec;

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Decoder, Sizes, activation, windowed_but_every, windowed_layers},
    keys::DefaultValue,
    names::Names,
    olmo2::plain,
    rope::{self, RopeShape},
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "olmo3",
    architectures: &["Olmo3ForCausalLM"],
    model_types: &["olmo3"],
    defaults: &[
        ("hidden_act", DefaultValue::Text("silu")),
        ("max_position_embeddings", DefaultValue::Whole(2_048)),
        ("rms_norm_eps", DefaultValue::Number(1e-5)),
        ("sliding_window", DefaultValue::Whole(4_096)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "olmo2", read: None, write: Some(written::patterned) }),
};

/// How many layers after each other have one that sees all, where files do not say.
const PATTERN: usize = 4;

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let shape = RopeShape { default_base: 500_000.0, ..RopeShape::of(&sizes) };
    let base = keys.maybe_number("rope_theta")?.unwrap_or(shape.default_base);
    let (global, local) = rope::by_layer_type(keys, shape, base)?;
    let windowed = windowed_layers(keys, sizes.layers)?;
    let windowed = windowed.unwrap_or_else(|| windowed_but_every(PATTERN, sizes.layers));
    let window = keys.maybe_size("sliding_window")?;
    let mut decoder = Decoder {
        activation: activation(keys, "hidden_act")?,
        ..Decoder::new(Names::HUGGING_FACE, sizes, None, global)
    };
    decoder.window_if(window, &windowed);
    decoder.rotate_windowed(&local, &windowed);
    Ok(plain(keys, decoder)?.spec("olmo3", files))
}
