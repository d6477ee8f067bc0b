use hub::{
    Caller, EmbedRequest,
    models::{EmbedOptions, EmbedPrompt, Input},
};
use hub_base::Task;
use serde_json::json;

use crate::{failure::Failure, output::read_input, progress::ProgressLine, session::Session};

/// Turns texts into vectors, one line each
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The texts; `-` reads them from standard input, one a line
    #[arg(required = true)]
    texts: Vec<String>,
    /// The model, an alias, or auto
    #[arg(long, default_value = "auto")]
    model: String,
    /// Keeps this many of the first numbers of each vector
    #[arg(long)]
    dimensions: Option<usize>,
    /// Puts the prompt of this name in the model's files before each text: query, document, or another
    #[arg(long, value_name = "NAME")]
    prompt: Option<String>,
    /// Adds the weight of each token to the JSON, of models that have them (bge-m3)
    #[arg(long)]
    sparse: bool,
    /// Adds a vector for each token to the JSON, of models that make them (bge-m3)
    #[arg(long)]
    multi_vector: bool,
}

impl Args {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        let mut texts = Vec::new();
        for text in self.texts {
            match text.as_str() {
                "-" => texts.extend(read_input()?.lines().map(str::to_owned)),
                _ => texts.push(text),
            }
        }
        if texts.is_empty() {
            return Err(Failure::Nothing { what: "no text to embed" });
        }
        let mut options = EmbedOptions::default();
        options.dimensions = self.dimensions;
        (options.sparse, options.multi_vector) = (self.sparse, self.multi_vector);
        options.prompt = self.prompt.map_or_else(EmbedPrompt::default, EmbedPrompt::from);
        let reply = session.with_hub(Vec::new(), async |hub| {
            let progress = ProgressLine::new();
            hub.load(&self.model, Task::Embed, None, progress.sink()).await?;
            drop(progress);
            let inputs = texts.into_iter().map(Input::Text).collect();
            let request = EmbedRequest::new(self.model, inputs).options(options).caller(Caller::new("embed"));
            Ok(hub.embed(request).await?)
        })?;
        let mut json = json!({ "model": reply.model, "embeddings": reply.vectors, "prompt_tokens": reply.prompt_tokens });
        if self.sparse {
            json["sparse"] = reply.forms.iter().map(|forms| json!(forms.sparse)).collect();
        }
        if self.multi_vector {
            json["multi_vectors"] = reply.forms.iter().map(|forms| json!(forms.multi_vector)).collect();
        }
        session.output.emit(&json, |_| {
            let line = |vector: &Vec<f32>| vector.iter().map(f32::to_string).collect::<Vec<_>>().join(" ");
            reply.vectors.iter().map(line).collect::<Vec<_>>().join("\n")
        })
    }
}
