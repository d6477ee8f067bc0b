//! What comes with a model of the Ollama registry: parameters, instructions, a template, a licence.

use hub_fetch::OllamaExtras;
use hub_models::{Preset, chat::known_template};
use serde_json::{Map, Value};

use crate::catalog::Arrival;

/// Adds what came with a model to what is known of its arrival.
pub(super) fn add(extras: &OllamaExtras, arrival: &mut Arrival) {
    let mut preset = Preset::default();
    match extras.params.as_deref().map(serde_json::from_str::<Map<String, Value>>) {
        Some(Ok(params)) => {
            for (name, value) in &params {
                if !take(&mut preset, name, value) {
                    arrival
                        .notes
                        .push(format!("its parameter {name} is not one that is served, and is left out"));
                }
            }
        }
        Some(Err(error)) => arrival.notes.push(format!("its parameters cannot be read: {error}")),
        None => {}
    }
    if !extras.adapters.is_empty() {
        arrival.adapters = extras.adapters.iter().map(|path| path.display().to_string()).collect();
        arrival
            .notes
            .push("its adapter is stored and not served yet, and so the model is not loaded".to_owned());
    }
    preset.system.clone_from(&extras.system);
    if let Some(template) = &extras.template {
        preset.chat_template = known_template(template).map(str::to_owned);
        arrival.is_template_unknown = preset.chat_template.is_none();
    }
    if extras.projector.is_some() {
        arrival.notes.push("its part for images is stored and not served yet; its texts are".to_owned());
    }
    let title = |text: &String| text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned);
    arrival.license = extras.licenses.first().and_then(title);
    arrival.preset = preset;
}

/// Parameters that tell Ollama how to run a model, which the hub knows better.
const MACHINE: [&str; 8] =
    ["num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "use_mmap", "use_mlock"];

/// Takes one parameter; `false` if it, or its value, means nothing here.
fn take(preset: &mut Preset, name: &str, value: &Value) -> bool {
    let mut tried = preset.clone();
    let number = value.as_f64().map(|number| number as f32);
    match name {
        "temperature" => tried.sampling.temperature = number,
        "top_k" => tried.sampling.top_k = value.as_u64().and_then(|number| u32::try_from(number).ok()),
        "top_p" => tried.sampling.top_p = number,
        "min_p" => tried.sampling.min_p = number,
        "repeat_penalty" => tried.sampling.repetition_penalty = number,
        "presence_penalty" => tried.sampling.presence_penalty = number,
        "frequency_penalty" => tried.sampling.frequency_penalty = number,
        "seed" => tried.sampling.seed = value.as_i64().map(i64::cast_unsigned),
        // Negative numbers are no limit.
        "num_predict" => {
            let limit = value.as_i64().and_then(|tokens| usize::try_from(tokens).ok());
            tried.max_tokens = limit.filter(|tokens| *tokens > 0);
            *preset = tried;
            return value.is_i64();
        }
        "stop" => {
            tried.stop = match value {
                Value::String(text) => vec![text.clone()],
                other => serde_json::from_value(other.clone()).unwrap_or_default(),
            };
        }
        _ => return MACHINE.contains(&name),
    }
    let is_meant = tried != *preset && tried.check().is_ok();
    if is_meant {
        *preset = tried;
    }
    is_meant
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
        assert_eq!((arrival.preset.sampling.temperature, arrival.preset.max_tokens), (Some(0.6), None));
        assert!(arrival.preset.chat_template.is_some() && arrival.notes.is_empty());
        assert_eq!(arrival.license.as_deref(), Some("Apache License"));
    }

    #[test]
    fn a_parameter_without_meaning_leaves_the_others() {
        let params = r#"{"mirostat": 2, "repeat_penalty": 0, "top_k": -1, "temperature": "hot", "stop": "END", "top_p": 0.9}"#;
        let arrival = arrived(|extras| extras.params = Some(params.to_owned()));
        assert_eq!(
            (arrival.preset.sampling.top_p, arrival.preset.stop.as_slice()),
            (Some(0.9), &["END".to_owned()][..])
        );
        assert_eq!(arrival.notes.len(), 4, "{:?}", arrival.notes);
        arrival.preset.check().unwrap();
    }

    #[test]
    fn what_is_not_used_is_said() {
        let arrival = arrived(|extras| {
            extras.params = Some("7".to_owned());
            extras.template = Some("{{ .Prompt }}".to_owned());
            extras.projector = Some("/blob".into());
        });
        assert_eq!(arrival.notes.len(), 2, "{:?}", arrival.notes);
        assert!(arrival.preset.is_empty() && arrival.is_template_unknown);
    }
}
