use hub_base::Size;
use serde_json::Value;

use crate::{client, failure::Failure, output::table, session::Session};

/// Lists the models that a running server has in memory
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    server: client::Server,
}

impl Args {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        let answer = self.server.get(session, "/hub/v1/ps")?;
        session.output.emit(&answer, |answer| {
            let list = |key: &str| answer[key].as_array().cloned().unwrap_or_default();
            let (models, loading) = (list("models"), list("loading"));
            if models.is_empty() && loading.is_empty() {
                return "no model is in memory: each is loaded on its first use".to_owned();
            }
            let head = [
                "NAME", "TASK", "MEMORY", "CONTEXT", "RUNNING", "WAITING", "REQUESTS", "PROMPT/S",
                "ANSWER/S", "STAYS",
            ];
            let mut text =
                if models.is_empty() { String::new() } else { table(head, models.iter().map(row)) };
            loading.iter().for_each(|load| text.push_str(&progress(load)));
            text
        })
    }
}

fn row(model: &Value) -> [String; 10] {
    let text = |key: &str| match &model[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rate = |key: &str| model[key].as_f64().map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"));
    let memory = model["memory_bytes"].as_u64().map_or_else(String::new, |bytes| Size(bytes).to_string());
    let stays = match model["expires_in_ms"].as_u64() {
        Some(ms) => format!("{} s", ms.div_ceil(1_000)),
        None => "-".to_owned(),
    };
    [
        text("name"),
        text("task"),
        memory,
        text("context_tokens"),
        text("running"),
        text("waiting"),
        text("requests"),
        rate("prefill_tokens_per_s"),
        rate("decode_tokens_per_s"),
        stays,
    ]
}

/// Says how far a load has come.
fn progress(load: &Value) -> String {
    let number = |key: &str| load[key].as_u64().unwrap_or(0);
    let percent = number("done").saturating_mul(100).checked_div(number("total"));
    let percent = percent.map_or_else(String::new, |percent| format!(", {percent} %"));
    let name = load["name"].as_str().unwrap_or_default();
    let stage = load["stage"].as_str().unwrap_or_default();
    format!("{name} is being loaded: {stage}{percent}, for {} s\n", number("elapsed_ms") / 1_000)
}
