use serde_json::{Value, json};

use crate::{client, failure::Failure, session::Session};

/// Loads a model into a running server's memory, before it is asked anything
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model
    model: String,
    /// How long it stays once nobody uses it, such as 30m [default: as the server's settings say]
    #[arg(long, value_name = "TIME")]
    keep_alive: Option<String>,
    #[command(flatten)]
    server: client::Server,
}

impl Args {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        let mut body = json!({ "model": self.model });
        if let Some(time) = self.keep_alive {
            body["keep_alive"] = time.into();
        }
        let loaded = self.server.post(session, "/hub/v1/models/load", &body)?.read()?;
        session.output.emit(&loaded, |model: &Value| {
            format!("{} is in memory", model["name"].as_str().unwrap_or_default())
        })
    }
}
