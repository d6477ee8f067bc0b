//! Asks the built-in guide model each argument at temperature 0 and prints one line an answer.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use hub_models::{GenerateOptions, LoadOptions, Source, TextModel};

fn main() -> Result<(), hub_models::Error> {
    let model = TextModel::open(Source::Guide, LoadOptions::default())?;
    for question in std::env::args().skip(1) {
        let reply = model.generate(question, GenerateOptions::default().greedy().max_tokens(120))?;
        println!("{}", reply.text()?.replace('\n', " "));
    }
    Ok(())
}
