//! Hugging Face folders as what a GGUF file of them holds.
//!
//! A family knows its models in both forms: what it reads of a folder, and what it reads of metadata. So nothing here lists
//! tensors. The metadata are written from the folder's specification and read back as those of a file would be; where
//! both specifications mean the same arithmetic, the tensors that stand in the same place of both are the same tensor,
//! under two names and perhaps in another order of rows. Where they differ, the metadata cannot say what the model is, and
//! nothing is written. Checked against the files of llama.cpp's converter (`tests/it/convert.rs`).

mod differences;
mod tensors;

use std::collections::BTreeMap;

use hub_nn::{
    spec::{ConvolvedSpec, Head, KvSpec, LinearSpec, Mixer, Mlp, ModelSpec, NormSpec, RopeSpec},
    weights::Content,
};
use serde_json::Value;

use self::tensors::Divisors;
use crate::{Error, FamilyError, bundle::Bundle, family};

/// What `config.json` calls the ids of tokens, and GGUF files, for what the tokenizer's files do not name.
const IDS: [(&str, &str); 3] =
    [("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding")];

/// Returns what a GGUF file of a folder holds.
///
/// # Errors
/// [`Error::NoConversion`] for a family that is only read, and for a model whose metadata or tokenizer GGUF files of its
/// family cannot express; those of reading the folder.
pub(crate) fn content_of(bundle: &Bundle) -> Result<Content, Error> {
    let refuse = |reason: String| Error::NoConversion { family: bundle.spec.family, reason };
    if !matches!(bundle.spec.head, Head::Logits { .. }) {
        return Err(refuse("models that embed or score are only read".to_owned()));
    }
    let mut spec = bundle.spec.clone();
    let divisors = tensors::take_divisors(&mut spec).map_err(refuse)?;
    let found = family::written(&spec, &planned(&spec, &divisors)).map_err(|error| match error {
        FamilyError::UnknownKey { key, .. } => refuse(format!("no GGUF file of its family has a `{key}`")),
        error => refuse(error.to_string()),
    })?;
    let Some((mut metadata, written)) = found else {
        return Err(refuse("its folders are only read".to_owned()));
    };
    differences::check(&spec, &written).map_err(refuse)?;
    let mut tensors = tensors::of(&spec, &written, &bundle.weights).map_err(refuse)?;
    tensors.extend(tensors::unread(&spec, &written, &bundle.weights));
    tensors.extend(divisors.into_iter().map(tensors::numbers));
    metadata.insert("general.type", "model");
    metadata.insert("general.name", bundle.title.as_str());
    let special = bundle.special_tokens()?;
    let tokens = bundle.tokenizer()?.to_gguf(&special, spec.vocab_size);
    let tokens = tokens.map_err(|error| refuse(error.to_string()))?;
    for (key, value) in tokens.metadata.iter() {
        metadata.insert(key, value.clone());
    }
    let config: Value = bundle.beside("config.json")?.unwrap_or_default();
    for (name, key) in IDS {
        let key = format!("tokenizer.ggml.{key}_token_id");
        let said = [&config[name], &config["text_config"][name]].into_iter().find_map(first_id);
        if let Some(id) = said.filter(|_| metadata.get(&key).is_none()) {
            metadata.insert(key, id);
        }
    }
    let note = |text: &str| {
        format!(
            "GGUF files keep scores instead of this tokenizer's merges, and some texts become other tokens than with \
             the folder, such as {text:?}"
        )
    };
    Ok(Content { metadata, tensors, notes: tokens.differs.map(note).into_iter().collect() })
}

/// Reads an id, or the first of several.
fn first_id(value: &Value) -> Option<u32> {
    let value = value.as_array().map_or(Some(value), |ids| ids.first())?;
    value.as_u64()?.try_into().ok()
}

/// Returns the names by which readers of metadata tell what a model has, with the first number of their shapes.
fn planned(spec: &ModelSpec, divisors: &Divisors) -> BTreeMap<String, usize> {
    let mut names: BTreeMap<String, usize> =
        divisors.iter().map(|(name, numbers)| ((*name).to_owned(), numbers.len())).collect();
    names.insert("token_embd.weight".to_owned(), spec.vocab_size);
    if let Head::Logits { linear, .. } = &spec.head
        && linear.weight != spec.embedding.table
    {
        names.insert("output.weight".to_owned(), spec.vocab_size);
    }
    if let Some(per_layer) = &spec.embedding.per_layer {
        names.insert("per_layer_token_embd.weight".to_owned(), per_layer.vocab_size);
    }
    for (at, layer) in spec.layers.iter().enumerate() {
        let attention = layer.mixer.attention();
        if let Some(KvSpec::Own(own)) = attention.map(|attention| &attention.kv)
            && own.value.weight != own.key.weight
        {
            names.insert(format!("blk.{at}.attn_v.weight"), own.value.outputs);
        }
        if attention.is_some_and(|attention| attention.query_norm.is_some()) {
            names.insert(format!("blk.{at}.attn_q_norm.weight"), 1);
        }
        if let Mlp::Experts(experts) = &layer.mlp {
            names.insert(format!("blk.{at}.ffn_gate_inp.weight"), experts.experts.len());
            if experts.routing.correction.is_some() {
                names.insert(format!("blk.{at}.exp_probs_b.bias"), experts.experts.len());
            }
        }
        if layer.output_scale.is_some() {
            names.insert(format!("blk.{at}.layer_output_scale.weight"), 1);
        }
        if let Some(laurel) = &layer.laurel {
            names.insert(format!("blk.{at}.laurel_l.weight"), laurel.left.outputs);
        }
        let mut note = |part: &str, is_there: bool, channels: usize| {
            if is_there {
                names.insert(format!("blk.{at}.{part}.bias"), channels);
            }
        };
        match &layer.mixer {
            Mixer::ShortConv(conv) => note("shortconv.conv", conv.conv.bias.is_some(), conv.conv.channels),
            Mixer::Recurrent(recurrent) => {
                let ConvolvedSpec { linear, conv } = &recurrent.query;
                note("ssm_conv1d", conv.bias.is_some(), conv.channels);
                note("ssm_in", linear.bias.is_some(), linear.outputs);
            }
            Mixer::Latent(latent) => {
                let LinearSpec { bias, outputs, .. } = &latent.latent;
                note("attn_kv_a_mqa", bias.is_some(), outputs + latent.rope_dim);
            }
            Mixer::Attention(_) => {}
        }
    }
    let Some(layer) = spec.layers.first() else { return names };
    let mut bias = |part: &str, linear: Option<&LinearSpec>| {
        if let Some(linear) = linear.filter(|linear| linear.bias.is_some()) {
            names.insert(format!("blk.0.{part}.bias"), linear.outputs);
        }
    };
    if let Mixer::Attention(attention) = &layer.mixer {
        bias("attn_q", Some(&attention.query));
        bias("attn_output", Some(&attention.output));
    }
    match &layer.mlp {
        Mlp::Gated { up, .. } | Mlp::Plain { up, .. } => bias("ffn_up", Some(up)),
        Mlp::Experts(_) => {}
    }
    if layer.mixer_norms.before.as_ref().is_some_and(|norm| norm.bias.is_some()) {
        names.insert("blk.0.attn_norm.bias".to_owned(), spec.hidden_size);
    }
    names
}

/// Calls `work` with every norm of a decoder.
fn each_norm(spec: &mut ModelSpec, work: &mut dyn FnMut(&mut NormSpec)) {
    for layer in &mut spec.layers {
        if let Mixer::Attention(attention) = &mut layer.mixer {
            attention.query_norm.iter_mut().for_each(&mut *work);
            if let KvSpec::Own(own) = &mut attention.kv {
                own.key_norm.iter_mut().for_each(&mut *work);
            }
        }
        for norms in [&mut layer.mixer_norms, &mut layer.mlp_norms] {
            [&mut norms.before, &mut norms.after, &mut norms.last].into_iter().flatten().for_each(&mut *work);
        }
    }
    spec.final_norm.iter_mut().for_each(work);
}

/// Calls `work` with every rotation.
fn each_rotation(spec: &mut ModelSpec, work: &mut dyn FnMut(&mut RopeSpec)) {
    for layer in &mut spec.layers {
        if let Mixer::Attention(attention) = &mut layer.mixer {
            attention.rope.iter_mut().for_each(&mut *work);
        }
    }
}
