//! OLMo 2: norms of what sublayers return, and of whole rows of queries and keys.

use hub_nn::spec::{ModelSpec, NormScope, Pairing, RopeScaling, RopeSpec};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    decoder::{Biases, Decoder, Norms, Sizes, activation, gguf_windowed_layers},
    keys::DefaultValue,
    names::Names,
    rope::{self, RopeShape},
    written,
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "olmo2",
    architectures: &["Olmo2ForCausalLM"],
    model_types: &["olmo2"],
    defaults: &[
        ("hidden_act", DefaultValue::Text("silu")),
        ("max_position_embeddings", DefaultValue::Whole(2_048)),
        ("rms_norm_eps", DefaultValue::Number(1e-5)),
    ],
    from_config,
    gguf: Some(Gguf { architecture: "olmo2", read: Some(from_gguf), write: Some(written::patterned) }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_config(keys)?;
    let rope = rope::from_config(keys, RopeShape::of(&sizes))?;
    let decoder = Decoder {
        activation: activation(keys, "hidden_act")?,
        ..Decoder::new(Names::HUGGING_FACE, sizes, None, rope)
    };
    Ok(plain(keys, decoder)?.spec("olmo2", files))
}

/// Makes the choices that OLMo 2 and 3 have in common.
pub(super) fn plain(keys: &Keys<'_>, decoder: Decoder) -> Result<Decoder, FamilyError> {
    let attention = keys.flag("attention_bias", false)?;
    Ok(Decoder {
        biases: Biases::of_attention(attention),
        is_tied: keys.flag("tie_word_embeddings", false)?,
        ..after(decoder)
    })
}

fn after(decoder: Decoder) -> Decoder {
    Decoder { norms: Norms::After, head_norms: Some(NormScope::Row), ..decoder }
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let rope = rope::from_gguf(keys, files, Pairing::Halves, RopeShape::of(&sizes))?;
    // OLMo 3's files go under this name, and say which layers have a window; those are not stretched.
    let window = keys.maybe_size("attention.sliding_window")?.filter(|window| *window > 0);
    let base = keys.maybe_number("rope.freq_base_swa")?.unwrap_or(rope.base);
    let plain = RopeSpec { base, scaling: RopeScaling::None, ..rope.clone() };
    let mut decoder = after(Decoder::new(Names::GGUF, sizes, None, rope));
    decoder.biases = Biases::in_gguf(files);
    decoder.is_tied = !files.has(Names::GGUF.head());
    if let Some(window) = window {
        let windowed = gguf_windowed_layers(keys, sizes.layers, 4)?;
        decoder.window_if(Some(window), &windowed);
        decoder.rotate_windowed(&plain, &windowed);
    }
    Ok(decoder.spec("olmo2", files))
}
