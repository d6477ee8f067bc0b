use hub_base::Size;
use serde_json::Value;

use crate::{client, failure::Failure, output::table, session::Session};

/// Lists the models that a running server has in memory
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server to ask [default: HUB_URL, or the one that serves the home directory]
    #[arg(long)]
    url: Option<String>,
    /// The key to send [default: HUB_API_KEY]
    #[arg(long)]
    key: Option<String>,
}

impl Args {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        let server = client::server(session, self.url.as_deref())?;
        let answer =
            client::get(&server, "/hub/v1/ps", self.key.as_deref().or(session.environment.key.as_deref()))?;
        session.output.emit(&answer, |answer| {
            let models = answer["models"].as_array().map_or(&[] as &[Value], Vec::as_slice);
            if models.is_empty() {
                return "no model is in memory: each is loaded on its first use".to_owned();
            }
            table(["NAME", "TASK", "MEMORY", "CONTEXT", "RUNNING", "WAITING"], models.iter().map(row))
        })
    }
}

fn row(model: &Value) -> [String; 6] {
    let text = |key: &str| match &model[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let memory = model["memory_bytes"].as_u64().map_or_else(String::new, |bytes| Size(bytes).to_string());
    [text("name"), text("task"), memory, text("context_tokens"), text("running"), text("waiting")]
}
