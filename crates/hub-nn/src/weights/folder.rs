//! Which files of a folder are the model.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use hub_base::whole_of_shard;
use serde::Deserialize;

use super::Error;
use crate::{MAX_VOCABULARY, read_side_file};

/// What a folder holds, in the order in which transformers looks for it; then the files of Mistral's own programs, which
/// often lie beside the others, GGUF last.
pub(super) enum Found {
    Safetensors(PathBuf),
    Sharded(Shards),
    Gguf(PathBuf),
}

/// The files of a sharded model.
pub(super) struct Shards {
    pub(super) index: PathBuf,
    /// The file of each tensor.
    pub(super) files: BTreeMap<String, String>,
}

/// Looks into `folder`.
pub(super) fn look(folder: &Path) -> Result<Found, Error> {
    for stem in ["model", "consolidated"] {
        let single = folder.join(format!("{stem}.safetensors"));
        if single.is_file() {
            return Ok(Found::Safetensors(single));
        }
        let index = folder.join(format!("{stem}.safetensors.index.json"));
        if index.is_file() {
            return read_index(index).map(Found::Sharded);
        }
    }
    let names = file_names(folder)?;
    let ggufs: Vec<&String> = names.iter().filter(|name| has_extension(name, "gguf")).collect();
    let whole = |name: &str| whole_of_shard(name.strip_suffix(".gguf")?).map(str::to_owned);
    // Names are in order, so the parts of one model begin with its first.
    if let [name, rest @ ..] = ggufs.as_slice()
        && rest.iter().all(|other| whole(other).is_some() && whole(other) == whole(name))
    {
        return Ok(Found::Gguf(folder.join(name)));
    }
    if !ggufs.is_empty() {
        let names = ggufs.into_iter().cloned().collect();
        return Err(Error::Ambiguous { path: folder.to_owned(), names });
    }
    match names.iter().find(|name| is_pickle(name)) {
        Some(name) => Err(Error::Pickle { path: folder.join(name) }),
        None => Err(Error::Empty { path: folder.to_owned() }),
    }
}

/// Whether a file of this name is a Python pickle of weights.
pub(super) fn is_pickle(name: &str) -> bool {
    ["bin", "pt", "pth", "ckpt", "pkl"].iter().any(|extension| has_extension(name, extension))
}

impl Shards {
    /// Returns the names of the files, each once, in order.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.files.values().map(String::as_str).collect()
    }
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

fn file_names(folder: &Path) -> Result<BTreeSet<String>, Error> {
    let read = |source: io::Error| Error::Read { file: folder.display().to_string(), source };
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        names.insert(entry.map_err(read)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

fn read_index(index: PathBuf) -> Result<Shards, Error> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let file = index.display().to_string();
    let text = read_side_file(&index, MAX_VOCABULARY)
        .map_err(|source| Error::Read { file: file.clone(), source })?;
    let corrupt = |reason: String| Error::Corrupt { file: file.clone(), reason };
    let Index { weight_map } = serde_json::from_slice(&text).map_err(|error| corrupt(error.to_string()))?;
    for (tensor, name) in &weight_map {
        // The name comes from the internet and must not lead out of the folder.
        if name.contains(['/', '\\', ':']) || name == ".." {
            return Err(corrupt(format!(
                "it puts tensor `{tensor}` into `{name}`, which is not a file beside it"
            )));
        }
    }
    Ok(Shards { index, files: weight_map })
}
