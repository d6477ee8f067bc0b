use std::path::PathBuf;

use hub_base::ModelId;

use crate::{failure::Failure, session::Session};

/// Makes a Hugging Face folder or a GGUF file usable where it lies
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder or file; it is not copied
    path: PathBuf,
    /// Calls the model this [default: the name of the folder or file]
    #[arg(long)]
    name: Option<ModelId>,
}

impl Args {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        let Self { path, name } = self;
        let model = session.with_hub(Vec::new(), async |hub| Ok(hub.import(&path, name).await?))?;
        session.output.emit(&model, |model| {
            format!("{} can {} now; its files stay where they are", model.name, model.task)
        })
    }
}
