use std::{path::PathBuf, pin::pin};

use hub::{Again, Existing, Mix, QuantizeChoices, QuantizeRequest, Quantized};
use hub_base::{ModelId, Size};

use crate::{failure::Failure, output::table, progress::ProgressLine, session::Session};

/// Writes a model in fewer bits, or says which kind fits this machine best
///
/// SOURCE is an installed model, a GGUF file, or a Hugging Face folder of a family that is converted. With --to a GGUF
/// file is written, which llama.cpp reads as well, and becomes a model of this hub; without, nothing is written and the
/// best kind for this machine's memory is named.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model, file or folder
    source: String,
    /// The kind: f16, q8_0, q6_k, q5_k_m, q4_k_m or q4_0
    #[arg(long, value_name = "KIND")]
    to: Option<String>,
    /// Writes this file and leaves it at that; otherwise it lies in the hub's directory and becomes a model
    #[arg(long, short, value_name = "FILE", requires = "to", conflicts_with = "name")]
    output: Option<PathBuf>,
    /// Calls the model this [default: the name of the source with the kind]
    #[arg(long, requires = "to")]
    name: Option<ModelId>,
    /// Rounds weights that are quantized already once more, and loses a second time
    #[arg(long, requires = "to")]
    requantize: bool,
    /// Replaces a file that is there already
    #[arg(long, requires = "to")]
    overwrite: bool,
}

impl Args {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        let Some(to) = &self.to else {
            let find = async |hub: &hub::Hub| Ok(hub.quantize_choices(&self.source).await?);
            let choices = session.with_hub(Vec::new(), find)?;
            return session.output.emit(&choices, |choices| advice(choices, &self.source));
        };
        let mix: Mix = to.parse().map_err(|error| Failure::Setting { message: format!("{error}") })?;
        let quantized = self.write(mix, session)?;
        session.output.emit(&quantized, told)
    }

    fn write(self, mix: Mix, session: &Session) -> Result<Quantized, Failure> {
        let progress = ProgressLine::new();
        let mut request = QuantizeRequest::new(self.source, mix);
        (request.output, request.name, request.progress) = (self.output, self.name, progress.sink());
        if self.requantize {
            request.again = Again::Round;
        }
        if self.overwrite {
            request.existing = Existing::Replace;
        }
        let cancel = request.cancel.clone();
        session.with_hub(Vec::new(), async |hub| {
            let mut work = pin!(hub.quantize(request));
            tokio::select! {
                done = &mut work => return Ok(done?),
                _ = tokio::signal::ctrl_c() => cancel.cancel(),
            }
            // What was begun is deleted before this ends.
            match work.await {
                Ok(done) => Ok(done),
                Err(_) => Err(Failure::Interrupted),
            }
        })
    }
}

/// Says what was written.
fn told(quantized: &Quantized) -> String {
    let Quantized { path, mix, bytes, source_bytes, model, notes, .. } = quantized;
    let sizes = format!("{mix}: {}, from {}", Size(*bytes), Size(*source_bytes));
    let first = match model {
        Some(model) => format!("{} can {} now ({sizes})", model.name, model.verb()),
        None => format!("{} is written ({sizes})", path.display()),
    };
    let notes = notes.iter().map(|note| format!("note: {note}"));
    [first].into_iter().chain(notes).collect::<Vec<_>>().join("\n")
}

/// Lists what a model would take in each kind, and names the best.
fn advice(choices: &QuantizeChoices, source: &str) -> String {
    let rows = choices.choices.iter().map(|choice| {
        let fits = if choices.best == Some(choice.mix) {
            "best here"
        } else if choice.fits {
            "yes"
        } else {
            "no"
        };
        [
            choice.mix.to_owned(),
            Size(choice.file_bytes).to_string(),
            Size(choice.memory_bytes).to_string(),
            fits.to_owned(),
        ]
    });
    let mut text = table(["KIND", "FILE", "MEMORY", "FITS"], rows);
    text += &choices.reason;
    if let Some(best) = choices.best {
        let is_again = choices.choices.iter().any(|choice| choice.mix == best && choice.is_again);
        let again = if is_again { " --requantize" } else { "" };
        text += &format!("\n`hub quantize {source} --to {}{again}` writes it", best.to_ascii_lowercase());
    }
    text
}
