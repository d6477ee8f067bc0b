//! Any bytes as the weights of a folder: an error or a model, never a panic, a hang or a memory bomb.
#![no_main]

use std::{cell::OnceCell, fs};

use hub_nn::weights::Weights;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

thread_local! {
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

fuzz_target!(|data: &[u8]| {
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| TempDir::new().expect("a temporary folder"));
        fs::write(folder.path().join("model.safetensors"), data).expect("a temporary file");
        let Ok(weights) = Weights::open(folder.path()) else { return };
        for name in weights.names() {
            let _ = weights.read(name).map(|tensor| tensor.to_f32());
        }
    });
});
