use hub_base::Size;
use serde_json::json;

use crate::{failure::Failure, session::Session};

/// Forgets a model; what the hub pulled or wrote into its own directory for it is deleted, and its packed weights
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
        let hub::Removed { model, freed_bytes: freed, packed_bytes: packed, .. } = &removed;
        session.output.emit(&json!({ "removed": removed }), |_| {
            let mut told = format!("{} is forgotten", model.name);
            if *freed > 0 {
                told += &format!(", and {} of files that the hub had for it are deleted", Size(*freed));
            }
            if *packed > 0 {
                told += &format!(", and {} of packed weights are deleted", Size(*packed));
            }
            if let Some(path) = model.path.as_ref().filter(|_| *freed == 0) {
                told += &format!("; its files stay at {}", path.display());
            }
            told
        })
    }
}
