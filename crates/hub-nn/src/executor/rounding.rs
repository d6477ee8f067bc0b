//! Plain matrices rounded while they are loaded, to the kinds that a mix gives them.

use std::collections::{HashMap, HashSet};

use super::{EncoderWeights, ExecutorOptions};
use crate::{
    spec::{ExpertSpec, Head, KvSpec, LayerSpec, LinearSpec, Mask, Mixer, Mlp, ModelSpec},
    weights::{Content, ContentTensor, MadeOf, Metadata, Mix, Target, WeightKind, Weights, targets},
};

/// Returns the kind of every tensor that is rounded, by its name in the files.
///
/// What is quantized already, and what a mix leaves as it is, is not among them.
pub(super) fn rounded(
    options: ExecutorOptions,
    spec: &ModelSpec,
    weights: &Weights,
) -> HashMap<String, WeightKind> {
    let is_encoder = spec.mask == Mask::Bidirectional;
    let mix = match options.encoder_weights {
        EncoderWeights::Q8 if is_encoder => Some(Mix::Q8_0),
        _ => options.weights.filter(|_| !is_encoder),
    };
    let Some(mix) = mix else { return HashMap::new() };
    let content = content(spec, weights);
    let of_tensor = |(tensor, target): (&ContentTensor, Target)| {
        let MadeOf::Rows(sources) = &tensor.made_of else { return None };
        let is_rounded = target.from.is_float() && target.to.is_quantized();
        is_rounded.then_some((sources.first()?.name.clone(), target.to))
    };
    let found = targets(mix, &content, weights);
    content.tensors.iter().zip(found).filter_map(of_tensor).collect()
}

/// Describes a model's matrices by the names that GGUF files have for what they do, which is what mixes go by.
fn content(spec: &ModelSpec, weights: &Weights) -> Content {
    let mut names = HashMap::new();
    for (at, layer) in spec.layers.iter().enumerate() {
        name_layer(layer, at, &mut names);
    }
    if let Some(per_layer) = &spec.embedding.per_layer {
        names.insert(per_layer.table.name.as_str(), "per_layer_token_embd.weight".to_owned());
        names.insert(&per_layer.projection.weight.name, "per_layer_model_proj.weight".to_owned());
    }
    if let Head::Logits { linear, .. } = &spec.head {
        names.insert(&linear.weight.name, "output.weight".to_owned());
    }
    names.insert(&spec.embedding.table.name, "token_embd.weight".to_owned());
    // Families that mixes know are called as their files call them.
    let mut metadata = Metadata::from_iter([("general.architecture", spec.family)]);
    let mut say = |key: &str, number: usize| metadata.insert(format!("{}.{key}", spec.family), number as u64);
    say("block_count", spec.layers.len());
    say("expert_count", spec.mixtures().next().map_or(0, |mixture| mixture.experts.len()));
    if let Some(attention) = spec.layers.iter().find_map(|layer| layer.mixer.attention()) {
        say("attention.head_count", attention.heads);
        say("attention.head_count_kv", attention.kv_heads);
    }
    let mut tensors: Vec<ContentTensor> = Vec::new();
    let mut known = HashSet::new();
    for used in spec.distinct_tensors() {
        let name = used.tensor.name.as_str();
        let is_matrix = used.width.is_some() && !used.is_looked_up && !used.is_turned;
        let Some(info) = weights.info(name).filter(|_| is_matrix && known.insert(name.to_owned())) else {
            continue;
        };
        let role = names.get(name).cloned().unwrap_or_else(|| "other.weight".to_owned());
        tensors.push(ContentTensor::new(role, info.shape.clone(), info.kind, MadeOf::whole(name)));
    }
    Content { metadata, tensors, notes: Vec::new() }
}

fn name_layer<'a>(layer: &'a LayerSpec, at: usize, names: &mut HashMap<&'a str, String>) {
    let mut name = |linear: &'a LinearSpec, role: &str| {
        names.insert(linear.weight.name.as_str(), format!("blk.{at}.{role}.weight"));
    };
    if let Mixer::Attention(attention) = &layer.mixer {
        name(&attention.output, "attn_output");
        if let KvSpec::Own(own) = &attention.kv {
            let is_fused = own.value.weight.name == attention.query.weight.name;
            name(&own.key, "attn_k");
            name(&own.value, if is_fused { "attn_qkv" } else { "attn_v" });
        }
    }
    match &layer.mlp {
        Mlp::Gated { down, .. } | Mlp::Plain { down, .. } => name(down, "ffn_down"),
        Mlp::Experts(experts) => {
            name(&experts.router, "ffn_gate_inp");
            for ExpertSpec { down, .. } in &experts.experts {
                name(down, "ffn_down_exps");
            }
            if let Some(Mlp::Gated { down, .. }) = experts.shared.as_ref().map(|shared| &*shared.mlp) {
                name(down, "ffn_down_shexp");
            }
        }
    }
    if let Some(altup) = &layer.altup {
        name(&altup.router, "altup_router");
    }
    if let Some(laurel) = &layer.laurel {
        name(&laurel.left, "laurel_l");
        name(&laurel.right, "laurel_r");
    }
}
