//! A conversation with a model, from Rust: `cargo ex chat [PATH]`.
//!
//! Without a path it talks to the guide model that is inside the program.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::io::{self, BufRead, Write};

use hub_models::{ChatPrompt, GenerateOptions, LoadOptions, Prompt, Source, TextModel, chat::Message};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let source = std::env::args_os().nth(1).map_or(Source::Guide, |path| Source::Path(path.into()));
    let model = TextModel::open(source, LoadOptions::default())?;
    let mut messages = Vec::new();
    for line in io::stdin().lock().lines() {
        messages.push(Message::user(line?));
        let prompt = Prompt::Chat(ChatPrompt::new(messages.clone()));
        let mut answer = String::new();
        for delta in model.generate(prompt, GenerateOptions::default().max_tokens(200))?.blocking() {
            let text = delta?.text;
            print!("{text}");
            io::stdout().flush()?;
            answer.push_str(&text);
        }
        println!();
        messages.push(Message::assistant(answer));
    }
    Ok(())
}
