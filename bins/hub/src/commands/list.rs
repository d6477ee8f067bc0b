use hub_base::Size;
use serde_json::json;

use crate::{
    failure::Failure,
    output::{count, table},
    session::Session,
};

/// Lists the models that can be asked
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

impl Args {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        let both = async |hub: &hub::Hub| Ok((hub.models().await?, hub.aliases().await?));
        let (models, aliases) = session.with_hub(Vec::new(), both)?;
        session.output.emit(&json!({ "models": models, "aliases": aliases }), |_| {
            let row = |model: &hub::Installed| {
                [
                    model.name.to_string(),
                    model.purpose().to_owned(),
                    count(model.parameters),
                    model.weights.clone(),
                    model.context_tokens.to_string(),
                    space(model),
                    place(model),
                ]
            };
            let head = ["NAME", "TASK", "PARAMS", "WEIGHTS", "CONTEXT", "ON DISK", "WHERE"];
            let models = table(head, models.iter().map(row));
            if aliases.is_empty() {
                return models;
            }
            format!("{models}\n{}", table(["ALIAS", "LEADS TO"], aliases.iter().map(alias)))
        })
    }
}

/// Says what space a model's files take.
fn space(model: &hub::Installed) -> String {
    match &model.path {
        // Rows of older versions do not say.
        Some(_) => {
            let files = Size(model.disk_bytes.max(model.bytes));
            match model.packed_bytes {
                0 => files.to_string(),
                packed => format!("{files} + {} packed", Size(packed)),
            }
        }
        None => "-".to_owned(),
    }
}

/// Says where a model's files are, and whether they still are.
fn place(model: &hub::Installed) -> String {
    match &model.path {
        Some(path) if path.exists() => path.display().to_string(),
        Some(path) => format!("{} (gone)", path.display()),
        None => "built in".to_owned(),
    }
}

/// Writes an alias and what it leads to, in order.
fn alias(alias: &hub::Alias) -> [String; 2] {
    let missing = alias.missing.iter().map(|model| format!("{model} (not installed)"));
    let names: Vec<String> = alias.models.iter().cloned().chain(missing).collect();
    [alias.name.clone(), names.join(", ")]
}
