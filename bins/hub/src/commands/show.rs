use std::fmt::Write;

use hub::ModelDetails;
use hub_base::Size;

use crate::{
    failure::Failure,
    output::{age, count, line},
    session::Session,
};

/// Shows what a model's files say of it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model
    model: String,
    /// Prints its chat template, and nothing else
    #[arg(long)]
    template: bool,
}

impl Args {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        if self.template {
            let find = async |hub: &hub::Hub| Ok(hub.chat_template(&self.model).await?);
            let template = session.with_hub(Vec::new(), find)?;
            return match template {
                Some(template) if session.output.is_json => {
                    session.output.emit(&serde_json::json!({ "chat_template": template }), |_| String::new())
                }
                Some(template) => line(&template),
                None => Err(Failure::NoTemplate { model: self.model }),
            };
        }
        let details = session.with_hub(Vec::new(), async |hub| Ok(hub.details(&self.model).await?))?;
        session.output.emit(&details, facts)
    }
}

/// Writes what is known of a model, a line for each fact.
pub(super) fn facts(details: &ModelDetails) -> String {
    let mut text = String::new();
    for (name, value) in files(details).into_iter().chain(use_of(details)).chain(cost(details)) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<14}{value}");
    }
    text
}

/// A line of what is shown.
type Fact = (&'static str, String);

/// What the model is, and where it lies.
fn files(details: &ModelDetails) -> Vec<Fact> {
    let (model, info) = (&details.installed, &details.info);
    let kinds: Vec<_> =
        info.weight_kinds.iter().map(|(kind, tensors)| format!("{kind} ({tensors})")).collect();
    let unpacked =
        info.unpacked_kinds.iter().map(|(kind, other)| ("", format!("{kind} is loaded as {other}")));
    let layers: Vec<_> = info.layer_kinds.iter().map(ToString::to_string).collect();
    let place =
        model.path.as_ref().map_or("inside this program".to_owned(), |path| path.display().to_string());
    let parameters = match info.active_parameters == info.parameters {
        true => count(info.parameters),
        false => {
            format!("{}, of which a token takes {}", count(info.parameters), count(info.active_parameters))
        }
    };
    let mut facts = vec![
        ("name", model.name.to_string()),
        ("from", model.source.clone()),
        ("where", place),
        ("family", format!("{}, {}", info.family, info.format)),
        ("parameters", parameters),
        ("weights", format!("{}: {}", Size(info.file_bytes), kinds.join(", "))),
    ];
    facts.extend(unpacked);
    facts.push(("layers", format!("{}, {} wide: {}", info.layers, info.hidden_size, layers.join("; "))));
    facts.push(("vocabulary", format!("{} tokens", info.vocab_size)));
    facts.extend(model.files.iter().map(|file| ("sha256", format!("{}  {}", file.sha256, file.name))));
    facts
}

/// What the model is for.
fn use_of(details: &ModelDetails) -> Vec<Fact> {
    let (model, info) = (&details.installed, &details.info);
    let list = |name, words: &[String]| (!words.is_empty()).then(|| (name, words.join(", ")));
    let template = match (info.has_chat_template, &model.preset.chat_template) {
        (true, _) => "yes (--template prints it)",
        (false, Some(_)) => "one of the form that came with it (--template prints it)",
        (false, None) => "none",
    };
    let preset = &model.preset;
    let sampling = [
        ("temperature", preset.sampling.temperature.map(f64::from)),
        ("top_k", preset.sampling.top_k.map(f64::from)),
        ("top_p", preset.sampling.top_p.map(f64::from)),
        ("min_p", preset.sampling.min_p.map(f64::from)),
        ("repetition_penalty", preset.sampling.repetition_penalty.map(f64::from)),
    ];
    let sampling = sampling.iter().filter_map(|(name, value)| Some(format!("{name} {:.3}", (*value)?)));
    let mut facts = Vec::new();
    facts.extend(list("can", &model.capabilities));
    facts.extend(list("good at", &model.specialities));
    facts.extend(list("languages", &model.languages));
    facts.extend(list("made from", &info.card.base_models));
    facts.extend(model.license.clone().map(|license| ("licence", license)));
    facts.push(("template", template.to_owned()));
    facts.extend(preset.system.clone().map(|system| ("system", system)));
    facts.extend(list("sampling", &sampling.collect::<Vec<_>>()));
    facts.extend(list("stops at", &preset.stop));
    facts.extend(model.notes.iter().map(|note| ("note", note.clone())));
    facts.extend(info.limits.iter().map(|limit| ("limit", limit.clone())));
    facts
}

/// What the model takes, and how fast it is.
fn cost(details: &ModelDetails) -> Vec<Fact> {
    let mut facts = vec![("context", format!("{} tokens", details.info.context_tokens))];
    let memory = details.memory.iter();
    facts.extend(
        memory.map(|at| ("memory", format!("{} with one sequence of {} tokens", fine(at.bytes), at.tokens))),
    );
    let info = &details.info;
    facts.push((
        "memory",
        format!(
            "of which weights {}, work {} and vocabulary {}",
            Size(info.loaded_bytes),
            Size(info.scratch_bytes),
            Size(info.vocabulary_bytes)
        ),
    ));
    let Some(speed) = &details.speed else {
        facts.push(("speed", format!("not measured: `hub bench {} --save`", details.installed.name)));
        return facts;
    };
    let rates = [
        ("prompt", speed.prefill_tokens_per_s),
        ("answer", speed.decode_tokens_per_s),
        ("texts", speed.read_tokens_per_s),
    ];
    let rates = rates.iter().filter_map(|(what, rate)| Some(format!("{what} {:.1} tokens/s", (*rate)?)));
    let now_ms = hub::now_ms();
    facts.push(("speed", rates.collect::<Vec<_>>().join(", ")));
    facts.push(("measured", format!("{} on {}", age(speed.measured_at_ms, now_ms), speed.device)));
    facts
}

/// Writes a size to within a hundredth: `1.52 GiB`.
fn fine(bytes: u64) -> String {
    const GIB: u64 = 1 << 30;
    if bytes < GIB { Size(bytes).to_string() } else { format!("{:.2} GiB", bytes as f64 / GIB as f64) }
}
