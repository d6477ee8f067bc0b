//! The files that are compared when none are named: random weights in the shapes of two real models.

use std::path::PathBuf;

use super::engine::{Instructions, LlamaCpp};
use crate::{
    run::{Error, cache, command, root, run},
    tools,
};

const SHAPES: [&str; 2] = ["llama-3.2-1b", "qwen2.5-0.5b"];
const KINDS: [&str; 2] = ["Q4_K_M", "Q8_0"];

/// Returns the files, made at the first call: 6 GB, those with F16 weights among them.
///
/// # Errors
/// If Python's packages cannot be fetched, or a program fails.
pub(super) fn made() -> Result<Vec<PathBuf>, Error> {
    let folder = cache()?.join("compare");
    std::fs::create_dir_all(&folder)?;
    let mut files = Vec::new();
    for shape in SHAPES {
        let source = folder.join(format!("{shape}-f16.gguf"));
        if !source.exists() {
            write(shape, &source)?;
        }
        for kind in KINDS {
            let file = folder.join(format!("{shape}-{kind}.gguf"));
            if !file.exists() {
                LlamaCpp::built(Instructions::All)?.quantize(&source, &file, kind)?;
            }
            files.push(file);
        }
        files.push(source);
    }
    Ok(files)
}

fn write(shape: &str, path: &std::path::Path) -> Result<(), Error> {
    let python = tools::python("gguf", &[&["gguf==0.19.0", "numpy"]])?;
    let script = root().join("xtask/src/compare/random_gguf.py");
    let unfinished = path.with_extension("part");
    run(command(python, &[&script.to_string_lossy(), shape, &unfinished.to_string_lossy()]))?;
    Ok(std::fs::rename(unfinished, path)?)
}
