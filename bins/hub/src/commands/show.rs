use std::fmt::Write;

use hub::ModelDetails;
use hub_base::Size;

use crate::{
    failure::Failure,
    output::{count, line},
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
        session.output.emit(&details, text)
    }
}

fn text(details: &ModelDetails) -> String {
    let (model, info) = (&details.installed, &details.info);
    let kinds: Vec<_> =
        info.weight_kinds.iter().map(|(kind, tensors)| format!("{kind} ({tensors})")).collect();
    let from = model.path.as_ref().map_or("built in".to_owned(), |path| path.display().to_string());
    let mut lines = vec![
        ("name", model.name.to_string()),
        ("task", info.task.to_string()),
        ("from", from),
        ("family", info.family.to_owned()),
        ("format", info.format.to_owned()),
        ("parameters", count(info.parameters)),
        ("weights", format!("{}: {}", Size(info.file_bytes), kinds.join(", "))),
        ("layers", format!("{}, {} wide", info.layers, info.hidden_size)),
        ("vocabulary", format!("{} tokens", info.vocab_size)),
        ("context", format!("{} tokens", info.context_tokens)),
        ("template", if info.has_chat_template { "yes (--template prints it)" } else { "none" }.to_owned()),
    ];
    lines.extend(
        details.memory().into_iter().map(|(tokens, bytes)| {
            ("memory", format!("{} with one sequence of {tokens} tokens", Size(bytes)))
        }),
    );
    let mut text = String::new();
    for (name, value) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<12}{value}");
    }
    if !info.left_out.is_empty() {
        let _ = writeln!(text, "left out of its files:");
    }
    for tensor in &info.left_out {
        let _ = writeln!(text, "  {}: {}", tensor.name, tensor.reason);
    }
    text
}
