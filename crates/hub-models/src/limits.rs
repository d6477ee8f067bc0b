//! What is known not to work with a model, in words.

use std::collections::BTreeMap;

use hub_nn::spec::{Head, Mixer, ModelSpec};

/// What of a model's files decides about its limits, beside its specification.
pub(crate) struct Facts<'a> {
    /// The architecture that the files name, if no family knows it.
    pub(crate) unknown_name: Option<&'a str>,
    /// The chat template, if there is one.
    pub(crate) template: Option<&'a str>,
}

/// Lists what does not work, the most important first.
pub(crate) fn of(spec: &ModelSpec, facts: &Facts<'_>) -> Vec<String> {
    let mut limits = Vec::new();
    if let Some(name) = facts.unknown_name {
        limits.push(format!(
            "no family knows `{name}`: it is read as `{}`, all of whose keys and tensors it has and no others. If it \
             computes otherwise, its answers are wrong",
            spec.family
        ));
    }
    limits.extend(left_out(spec));
    let is_of_language = matches!(spec.head, Head::Logits { .. });
    match facts.template {
        None if is_of_language => limits.push(
            "it has no chat template: it completes texts, and chats by the template its preset has, if any"
                .to_owned(),
        ),
        Some(template) if is_of_language && template.contains("tools") => {
            limits.push("its template knows tools, which are not passed on yet".to_owned());
        }
        _ => {}
    }
    if let Some(tokens) = spec.restart_tokens() {
        limits.push(format!(
            "past {tokens} tokens it turns positions by other angles: a sequence that grows past them is read anew once"
        ));
    }
    let is_uncut = |mixer: &Mixer| matches!(mixer, Mixer::Recurrent(_) | Mixer::ShortConv(_));
    if is_of_language && spec.layers.iter().any(|layer| is_uncut(&layer.mixer)) {
        limits.push(
            "what some of its layers have read cannot be taken back token by token: a conversation that changes is read \
             again from the last checkpoint"
                .to_owned(),
        );
    }
    limits
}

/// Says what tensors are left out, a line for each reason.
fn left_out(spec: &ModelSpec) -> impl Iterator<Item = String> {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for tensor in &spec.left_out {
        by_reason.entry(tensor.reason).or_default().push(&tensor.name);
    }
    by_reason.into_iter().filter_map(|(reason, names)| match names.as_slice() {
        [] => None,
        [name] => Some(format!("tensor `{name}` is not used: {reason}")),
        [first, ..] => Some(format!("{} tensors are not used, such as `{first}`: {reason}", names.len())),
    })
}
