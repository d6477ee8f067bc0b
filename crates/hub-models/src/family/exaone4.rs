//! EXAONE 4: norms of what sublayers return, and of each query and key head; layers that see all do not rotate, where
//! others have a window.

use hub_nn::spec::{ModelSpec, NormScope, Pairing};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Decoder, Norms, Sizes, activation, gguf_windowed_layers, windowed_but_every, windowed_layers},
    keys::DefaultValue,
    names::Names,
    rope::{self, RopeShape},
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "exaone4",
    architectures: &["Exaone4ForCausalLM"],
    model_types: &["exaone4"],
    defaults: &[
        ("hidden_act", DefaultValue::Text("silu")),
        ("max_position_embeddings", DefaultValue::Whole(2_048)),
        ("num_key_value_heads", DefaultValue::Whole(32)),
        ("rms_norm_eps", DefaultValue::Number(1e-5)),
        ("sliding_window", DefaultValue::Whole(4_096)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "exaone4", read: Some(from_gguf), write: Some(written::patterned) }),
};

/// How many layers after each other have one that sees all, where files do not say.
const PATTERN: usize = 4;

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let rope = rope::from_config(keys, RopeShape::of(&sizes))?;
    let window = keys.maybe_size("sliding_window")?;
    // Files that name the layers name the pattern too, as a number or as text.
    let listed = windowed_layers(keys, sizes.layers)?;
    let pattern = match listed {
        Some(_) => {
            keys.skip("sliding_window_pattern");
            PATTERN
        }
        None => keys.maybe_size("sliding_window_pattern")?.unwrap_or(PATTERN),
    };
    let windowed = listed.unwrap_or_else(|| windowed_but_every(pattern, sizes.layers));
    let decoder = Decoder {
        activation: activation(keys, "hidden_act")?,
        is_tied: keys.flag("tie_word_embeddings", false)?,
        ..Decoder::new(Names::HUGGING_FACE, sizes, None, rope)
    };
    Ok(hybrid(decoder, window, &windowed).spec("exaone4", files))
}

fn hybrid(mut decoder: Decoder, window: Option<usize>, windowed: &[bool]) -> Decoder {
    decoder.norms = Norms::After;
    decoder.head_norms = Some(NormScope::Head);
    if window.is_some() {
        decoder.rotate_if(|layer| windowed.get(layer).copied().unwrap_or(false));
        decoder.window_if(window, windowed);
    }
    decoder
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let rope = rope::from_gguf(keys, files, Pairing::Halves, RopeShape::of(&sizes))?;
    let window = keys.maybe_size("attention.sliding_window")?.filter(|window| *window > 0);
    let windowed = gguf_windowed_layers(keys, sizes.layers, PATTERN)?;
    let is_tied = !files.has(Names::GGUF.head());
    let decoder = Decoder { is_tied, ..Decoder::new(Names::GGUF, sizes, None, rope) };
    Ok(hybrid(decoder, window, &windowed).spec("exaone4", files))
}
