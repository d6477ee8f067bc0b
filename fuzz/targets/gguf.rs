//! Any bytes as a GGUF file: an error or a model, never a panic, a hang or a memory bomb.
#![no_main]

use std::{cell::OnceCell, fs};

use hub_models::Source;
use hub_nn::weights::Weights;
use libfuzzer_sys::fuzz_target;
use tempfile::NamedTempFile;

thread_local! {
    static FILE: OnceCell<NamedTempFile> = const { OnceCell::new() };
}

fuzz_target!(|data: &[u8]| {
    if let Ok(weights) = Weights::from_gguf_bytes(data.to_vec()) {
        for name in weights.names() {
            // What can be read can be converted, or says why not.
            let _ = weights.read(name).map(|tensor| tensor.to_f32());
        }
    }
    FILE.with(|file| {
        let file = file.get_or_init(|| NamedTempFile::with_suffix(".gguf").expect("a temporary file"));
        fs::write(file.path(), data).expect("a temporary file");
        // Family, specification, tokenizer and template: everything but a forward pass.
        let _ = hub_models::verify(&Source::Path(file.path().to_owned()));
    });
});
