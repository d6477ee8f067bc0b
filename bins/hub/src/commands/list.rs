use hub::Size;
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
        let models = session.with_hub(Vec::new(), async |hub| Ok(hub.models().await?))?;
        session.output.emit(&json!({ "models": models }), |_| {
            let row = |model: &hub::Installed| {
                [
                    model.name.to_string(),
                    model.task.to_string(),
                    count(model.parameters),
                    Size(model.bytes).to_string(),
                    model.context_tokens.to_string(),
                    model.weights.clone(),
                    model.path.as_ref().map_or("built in".to_owned(), |path| path.display().to_string()),
                ]
            };
            table(["NAME", "TASK", "PARAMS", "SIZE", "CONTEXT", "WEIGHTS", "FROM"], models.iter().map(row))
        })
    }
}
