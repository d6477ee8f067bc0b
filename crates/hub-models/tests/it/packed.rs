//! Packed weights that are kept for the next load.

use std::{fs, path::Path};

use hub_base::{Account, CancelToken, ProgressSink};
use hub_fixtures::{TinyModel, expected_text};
use hub_models::spec_of;
use hub_nn::{
    Device,
    executor::{Executor, ExecutorOptions},
    weights::{PackedPlace, Weights},
};

use crate::parity::logits;

/// Loads a model with its packed weights in `kept`; returns logits, and whether `kept` was written.
fn load(folder: &Path, kept: &Path) -> (Vec<Vec<f32>>, bool) {
    let weights = Weights::open(folder).unwrap().packed_at(PackedPlace::new(kept));
    let config = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    let spec = spec_of(&weights, Some(&config)).unwrap();
    let (sender, events) = std::sync::mpsc::channel();
    let progress = ProgressSink::new(move |event| sender.send(event.stage).unwrap_or_default());
    let device = Device::cpu(Account::unlimited());
    let mut executor: Box<dyn Executor> =
        ExecutorOptions::default().load(spec, &weights, &device, &progress, &CancelToken::new()).unwrap();
    let tokens = &expected_text("llama").prompts[0].ids;
    let logits = logits(executor.as_mut(), tokens, tokens.len());
    drop((executor, progress));
    (logits, events.iter().any(|stage| stage == "keeping packed weights"))
}

#[test]
fn what_was_packed_is_read_again_unless_something_changed() {
    let folder = TinyModel::new("llama").write();
    let home = tempfile::tempdir().unwrap();
    let kept = home.path().join("tiny.pack");
    let (first, is_written) = load(folder.path(), &kept);
    assert!(is_written && kept.exists());
    let (again, is_written) = load(folder.path(), &kept);
    assert!(!is_written, "the second load has nothing to pack");
    assert_eq!(first, again);

    let whole = fs::read(&kept).unwrap();
    let damages: [fn(&mut Vec<u8>); 6] = [
        |bytes| *bytes.last_mut().unwrap() ^= 1,
        |bytes| bytes.truncate(bytes.len() - 1),
        |bytes| bytes.truncate(3),
        |bytes| bytes[8] ^= 1,
        |bytes| bytes[12..16].fill(0xff),
        |bytes| bytes[20] = 0,
    ];
    for damage in damages {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(&kept, bytes).unwrap();
        assert_eq!(load(folder.path(), &kept), (first.clone(), true), "a damaged file is packed again");
    }

    let weights = folder.path().join("model.safetensors");
    let file = fs::File::options().append(true).open(weights).unwrap();
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(5)).unwrap();
    assert_eq!(load(folder.path(), &kept), (first, true), "files that changed are packed again");
    let left = fs::read_dir(home.path()).unwrap().count();
    assert_eq!(left, 1, "nothing unfinished is left");
}

/// The configuration of a folder says what its tensors mean, too.
#[test]
fn a_configuration_that_changed_is_packed_again() {
    let folder = crate::folders::gptq_llama();
    let home = tempfile::tempdir().unwrap();
    let kept = home.path().join("tiny.pack");
    let (first, _) = load(folder.path(), &kept);
    let config = folder.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap().replace("\"gptq\"}", "\"gptq_v2\"}");
    fs::write(&config, text).unwrap();
    let (other, is_written) = load(folder.path(), &kept);
    assert!(is_written && first != other, "zeros are one less");
}
