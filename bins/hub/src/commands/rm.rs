use serde_json::json;

use crate::{failure::Failure, session::Session};

/// Forgets an imported model; its files stay
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model
    model: String,
}

impl Args {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        let removed = session.with_hub(Vec::new(), async |hub| Ok(hub.remove(&self.model).await?))?;
        session.output.emit(&json!({ "removed": removed }), |_| match &removed.path {
            Some(path) => format!("{} is forgotten; its files stay at {}", removed.name, path.display()),
            None => format!("{} is forgotten", removed.name),
        })
    }
}
