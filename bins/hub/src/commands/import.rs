use std::path::Path;

use hub_base::ModelId;

use super::show;
use crate::{failure::Failure, progress::ProgressLine, session::Session};

/// Makes a Hugging Face folder or a GGUF file usable where it lies
///
/// hf:ORG/REPO and ollama:NAME[:TAG] name models that Hugging Face's programs and Ollama have fetched already; they are
/// used where they are, and no connection is opened.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder or file, or a model in another program's cache; it is not copied
    source: String,
    /// Calls the model this [default: the name of the folder, file or model]
    #[arg(long)]
    name: Option<ModelId>,
}

impl Args {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self { source, name } = self;
        let is_cached = ["hf:", "ollama:"].iter().any(|word| source.starts_with(word));
        let (model, details) = session.with_hub(Vec::new(), async |hub| {
            let progress = ProgressLine::new();
            let path = Path::new(&source);
            let model = if is_cached && !path.exists() {
                hub.import_cached(&source, name, progress.sink()).await?
            } else {
                hub.import(path, name, progress.sink()).await?
            };
            let details = hub.details(model.name.as_str()).await?;
            Ok((model, details))
        })?;
        session.output.emit(&model, |model| {
            let mut lines =
                vec![format!("{} can {} now; its files stay where they are", model.name, model.verb())];
            lines.extend(model.notes.iter().map(|note| format!("note: {note}")));
            lines.push(show::facts(&details));
            lines.join("\n")
        })
    }
}
