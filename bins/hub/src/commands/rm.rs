use hub_base::Size;
use serde_json::json;

use crate::{failure::Failure, session::Session};

/// Forgets a model; what the hub pulled into its own directory for it is deleted
///
/// Other files stay: those that were imported, and those in Hugging Face's cache, which other programs share.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model
    model: String,
}

impl Args {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        let removed = session.with_hub(Vec::new(), async |hub| Ok(hub.remove(&self.model).await?))?;
        let (name, freed) = (&removed.model.name, removed.freed_bytes);
        session.output.emit(&json!({ "removed": removed }), |_| match &removed.model.path {
            _ if freed > 0 => {
                format!("{name} is forgotten, and {} that were pulled for it are deleted", Size(freed))
            }
            Some(path) => format!("{name} is forgotten; its files stay at {}", path.display()),
            None => format!("{name} is forgotten"),
        })
    }
}
