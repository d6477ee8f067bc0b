mod bar;

use std::pin::pin;

use hub::{PullRequest, PullSink};
use hub_base::ModelId;

use crate::{commands::pull::bar::Bar, failure::Failure, session::Session};

/// Fetches a model from Hugging Face, the Ollama registry or an address
///
/// SOURCE is hf:ORG/REPO (what fits this machine), hf:ORG/REPO:Q4_K_M, hf:ORG/REPO/file.gguf, ollama:NAME[:TAG], an
/// https:// address with --sha256, or a path, which is imported. A pull that was stopped is gone on with by the next.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the model is to come from
    source: String,
    /// Calls the model this [default: after its source]
    #[arg(long)]
    name: Option<ModelId>,
    /// What the bytes at an address must hash to
    #[arg(long, value_name = "DIGITS")]
    sha256: Option<String>,
}

impl Args {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self { source, name, sha256 } = self;
        let bar = Bar::new();
        let mut request = PullRequest::new(source);
        (request.name, request.sha256) = (name, sha256);
        let shown = bar.clone();
        request.events = PullSink::new(move |event| shown.show(&event));
        let cancel = request.cancel.clone();
        let model = session.with_hub(Vec::new(), async |hub| {
            let mut pull = pin!(hub.pull(request));
            tokio::select! {
                model = &mut pull => return Ok(model?),
                _ = tokio::signal::ctrl_c() => cancel.cancel(),
            }
            // What arrived is written down before this ends.
            Ok(pull.await?)
        })?;
        bar.clear();
        session.output.emit(&model, |model| {
            let mut lines = vec![format!("{} can {} now", model.name, model.task)];
            lines.extend(model.notes.iter().map(|note| format!("note: {note}")));
            lines.join("\n")
        })
    }
}
