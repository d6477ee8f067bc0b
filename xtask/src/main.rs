//! Chores of this repository.
//!
//! `cargo xtask test` is the README's test command: it fetches what the tests need into `target/xtask`, runs every
//! check and every test, and ends with one summary line. The other chores make what is committed.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this program talks to whoever runs it")]

mod alone;
mod clients;
mod compare;
mod cuda;
mod fixtures;
mod guide;
mod run;
mod server;
mod soak;
mod suite;
mod tools;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask CHORE

  test           check and test everything; what continuous integration runs
  alone          build each crate by itself, with each of its features; a part of test
  compare        the hub beside llama.cpp on the same files, in turns; builds llama.cpp
  compare-embeddings  the same for texts into vectors, beside PyTorch, ONNX Runtime and llama.cpp (5.6 GB)
  cuda           build for NVIDIA cards, with a compiler from PyPI if need be; with a card, run the parity tests on it
  soak           the long runs: streams for ten minutes, damaged files by the thousand
  fixtures       make the committed expected values again (installs PyTorch, 5.6 GB)
  guide-train    train the built-in guide model again (installs PyTorch)
  guide-score    ask the built-in guide model its held-out questions";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let chore = args.next().unwrap_or_default();
    let result = match chore.as_str() {
        "test" => suite::test(),
        "alone" => alone::check(),
        "compare-embeddings" => compare::embeddings::compare(),
        "compare" => compare::compare(&args.collect::<Vec<_>>()),
        "cuda" => cuda::check(),
        "soak" => soak::soak(),
        "fixtures" => fixtures::make(),
        "guide-train" => guide::train(),
        "guide-score" => guide::score().map(|score| println!("{score}")),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
