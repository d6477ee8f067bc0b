use serde_json::{Value, json};

use crate::{client, failure::Failure, session::Session};

/// Unloads a model from a running server's memory, as soon as nobody uses it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model
    model: String,
    #[command(flatten)]
    server: client::Server,
}

impl Args {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        let body = json!({ "model": self.model });
        let unloaded = self.server.post(session, "/hub/v1/models/unload", &body)?.read()?;
        session.output.emit(&unloaded, |model: &Value| {
            format!("{} leaves memory as soon as nobody uses it", model["name"].as_str().unwrap_or_default())
        })
    }
}
