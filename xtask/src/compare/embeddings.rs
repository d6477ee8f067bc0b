//! `cargo xtask compare-embeddings`: texts a second beside three engines, over the real MiniLM.

use super::engine::{Instructions, LlamaCpp};
use crate::{
    fixtures::REFERENCES,
    run::{Error, cache, command, root, run},
    server::Server,
    tools,
};

const ONNX: &[&str] = &["onnx==1.23.2", "onnxruntime==1.32.0", "onnxscript==0.7.2"];
const ROUNDS: &str = "5";

/// Compares, and prints a table.
///
/// # Errors
/// If an engine cannot be fetched or built, or fails.
pub(crate) fn compare() -> Result<(), Error> {
    let python = tools::python("embeddings", &[REFERENCES, ONNX])?;
    let (_, model) = tools::clients()?;
    let program = LlamaCpp::built(Instructions::All)?.path("llama-embedding");
    let convert = tools::llama_cpp()?.join("convert_hf_to_gguf.py");
    let folder = cache()?.join("compare");
    std::fs::create_dir_all(&folder)?;
    run(command("cargo", &["build", "--release", "--quiet", "--bin", "hub"]))?;
    let server = Server::start("release", &[(model.clone(), "subject")])?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    let mut compare = command(python, &[]);
    compare.arg(root().join("xtask/src/compare/embeddings.py")).arg(model);
    compare.arg(root().join("fixtures/models/corpus.txt")).args([&server.url]);
    compare.arg(program).arg(convert).arg(folder).args([ROUNDS, &threads]);
    run(compare)
}
