//! An answer printed while it is written: `cargo ex stream [QUESTION] [PATH]`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::io::{self, Write};

use hub_models::{GenerateOptions, LoadOptions, Source, TextModel};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let question = args.next().unwrap_or_else(|| "How do I import a model?".to_owned());
    let source = args.next().map_or(Source::Guide, |path| Source::Path(path.into()));

    let model = TextModel::open(source, LoadOptions::default())?;
    let reply = model.generate(question, GenerateOptions::default().max_tokens(200))?;
    for delta in reply.blocking() {
        let delta = delta?;
        print!("{}", delta.text);
        io::stdout().flush()?;
        if let Some(usage) = delta.usage {
            println!("\n\n{} tokens read, {} written", usage.prompt_tokens, usage.completion_tokens);
        }
    }
    Ok(())
}
