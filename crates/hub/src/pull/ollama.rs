//! What comes with a model of the Ollama registry: parameters, instructions, a template, a licence.

use hub_fetch::OllamaExtras;
use hub_models::{Preset, chat::known_template};
use serde::Deserialize;

use crate::catalog::Arrival;

/// The parameters that mean something here. Others tell Ollama how to run a model, which the hub knows better.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Params {
    temperature: Option<f32>,
    top_k: Option<u32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repeat_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    seed: Option<i64>,
    num_predict: Option<i64>,
    stop: Vec<String>,
}

/// Adds what came with a model to what is known of its arrival.
pub(super) fn add(extras: &OllamaExtras, arrival: &mut Arrival) {
    let mut preset = Preset::default();
    match extras.params.as_deref().map(serde_json::from_str::<Params>) {
        Some(Ok(params)) => fill(&mut preset, params),
        Some(Err(error)) => arrival.notes.push(format!("its parameters cannot be read: {error}")),
        None => {}
    }
    preset.system.clone_from(&extras.system);
    if let Some(template) = &extras.template {
        preset.chat_template = known_template(template).map(str::to_owned);
        if preset.chat_template.is_none() {
            arrival.notes.push(
                "its chat template is of a form that is not known here: it answers conversations only if its file \
                 holds a template of its own"
                    .to_owned(),
            );
        }
    }
    if extras.projector.is_some() {
        arrival.notes.push("its part for images is stored and not served yet; its texts are".to_owned());
    }
    let title = |text: &String| text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned);
    arrival.license = extras.licenses.first().and_then(title);
    arrival.preset = preset;
}

fn fill(preset: &mut Preset, params: Params) {
    preset.temperature = params.temperature;
    preset.top_k = params.top_k;
    preset.top_p = params.top_p;
    preset.min_p = params.min_p;
    preset.repetition_penalty = params.repeat_penalty;
    preset.presence_penalty = params.presence_penalty;
    preset.frequency_penalty = params.frequency_penalty;
    preset.seed = params.seed.map(i64::cast_unsigned);
    // Negative numbers are no limit.
    preset.max_tokens = params.num_predict.and_then(|tokens| usize::try_from(tokens).ok()).filter(|n| *n > 0);
    preset.stop = params.stop;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(change: impl FnOnce(&mut OllamaExtras)) -> Arrival {
        let mut extras = OllamaExtras::default();
        change(&mut extras);
        let mut arrival = Arrival::default();
        add(&extras, &mut arrival);
        arrival
    }

    #[test]
    fn what_comes_with_a_model_is_kept() {
        let params = r#"{"stop": ["<|im_end|>"], "temperature": 0.6, "num_ctx": 4096, "num_predict": -1}"#;
        let arrival = arrived(|extras| {
            extras.params = Some(params.to_owned());
            extras.system = Some("You are Kim.".to_owned());
            extras.template = Some("<|im_start|>{{ .Role }}<|im_end|>".to_owned());
            extras.licenses = vec!["\n  Apache License\n Version 2.0".to_owned()];
        });
        assert_eq!(arrival.preset.stop, ["<|im_end|>"]);
        assert_eq!((arrival.preset.temperature, arrival.preset.max_tokens), (Some(0.6), None));
        assert!(arrival.preset.chat_template.is_some() && arrival.notes.is_empty());
        assert_eq!(arrival.license.as_deref(), Some("Apache License"));
    }

    #[test]
    fn what_is_not_used_is_said() {
        let arrival = arrived(|extras| {
            extras.params = Some("7".to_owned());
            extras.template = Some("{{ .Prompt }}".to_owned());
            extras.projector = Some("/blob".into());
        });
        assert_eq!(arrival.notes.len(), 3, "{:?}", arrival.notes);
        assert!(arrival.preset.is_empty());
    }
}
