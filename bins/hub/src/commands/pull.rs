mod bar;

use std::{path::Path, pin::pin};

use hub::{PullRequest, PullSink};
use hub_base::ModelId;

use crate::{commands::pull::bar::Bar, failure::Failure, progress::ProgressLine, session::Session};

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
            if request.sha256.is_none() && Path::new(&request.source).exists() {
                let progress = ProgressLine::new();
                return Ok(hub.import(Path::new(&request.source), request.name, progress.sink()).await?);
            }
            let mut pull = pin!(hub.pull(request));
            // One for the whole pull: between two of them a Ctrl-C would be lost.
            let mut stop = pin!(tokio::signal::ctrl_c());
            tokio::select! {
                model = &mut pull => return Ok(model?),
                _ = &mut stop => cancel.cancel(),
            }
            // What arrived is written down before this ends; whoever asks again does not wait for it.
            tokio::select! {
                model = &mut pull => Ok(model?),
                _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
            }
        })?;
        bar.clear();
        session.output.emit(&model, |model| {
            let mut lines = vec![format!("{} can {} now", model.name, model.verb())];
            lines.extend(model.notes.iter().map(|note| format!("note: {note}")));
            lines.join("\n")
        })
    }
}
