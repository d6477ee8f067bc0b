//! Llama 2 and 3, and what keeps their shape: CodeLlama, SmolLM, TinyLlama, Mistral's GGUF files.

use hub_nn::spec::{ModelSpec, Pairing, RopeScaling};

use super::{
    FamilyError, FamilySpec, Files, Keys,
    decoder::{Biases, Decoder, Sizes, activation},
    names::{Names, Part},
    rope::{self, RopeShape},
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "llama",
    architectures: &["LlamaForCausalLM"],
    gguf: &["llama"],
    from_config,
    from_gguf,
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let mut sizes = Sizes::from_config(keys)?;
    let rope = rope::from_config(keys, shape(&sizes))?;
    if let RopeScaling::Dynamic { factor, .. } = rope.scaling {
        // The configuration names the context before it is stretched.
        sizes.context = (sizes.context as f32 * factor) as usize;
    }
    let attention = keys.flag("attention_bias", false)?;
    let biases = Biases { query_key_value: attention, output: attention, mlp: keys.flag("mlp_bias", false)? };
    let decoder = Decoder {
        activation: activation(keys, "hidden_act")?,
        biases,
        is_tied: keys.flag("tie_word_embeddings", false)?,
        ..Decoder::new(Names::HuggingFace, sizes, None, rope)
    };
    Ok(decoder.spec("llama", files))
}

fn from_gguf(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let sizes = Sizes::from_gguf(keys, files)?;
    let rope = rope::from_gguf(keys, files, Pairing::Interleaved, shape(&sizes))?;
    if keys.maybe_size("expert_count")?.unwrap_or(0) > 0 {
        return Err(keys.bad("expert_count", "a model without experts"));
    }
    keys.skip("expert_used_count");
    let has_bias = |part| files.has(&Names::Gguf.layer(0, part, "bias"));
    let decoder = Decoder {
        biases: Biases {
            query_key_value: has_bias(Part::Query),
            output: has_bias(Part::Output),
            mlp: has_bias(Part::Up),
        },
        is_tied: !files.has(Names::Gguf.head()),
        ..Decoder::new(Names::Gguf, sizes, None, rope)
    };
    Ok(decoder.spec("llama", files))
}

fn shape(sizes: &Sizes) -> RopeShape {
    RopeShape { head_dim: sizes.head_dim, context_tokens: sizes.context, default_base: 10_000.0 }
}
