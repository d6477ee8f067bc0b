//! The files of a model: which they are, what they hold, what space they take.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use hub_base::{CancelToken, Progress, ProgressSink};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// One file of a model's weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ModelFile {
    /// Its name inside the model's folder, or its own.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// What its bytes hash to, as 64 hexadecimal digits.
    pub sha256: String,
}

/// How much is read between two looks at the cancel token.
const PIECE: usize = 1 << 20;

/// Describes the files at `paths`; reads those whose digest is neither `known` by their name nor told by their place.
///
/// # Errors
/// [`Error::Home`] naming the file that cannot be read, or [`Error::Stopped`].
pub(super) fn describe(
    paths: &[String],
    known: &[(String, String)],
    progress: &ProgressSink,
    cancel: &CancelToken,
) -> Result<Vec<ModelFile>> {
    let mut files = Vec::with_capacity(paths.len());
    let total = paths.iter().filter_map(|path| fs::metadata(path).ok()).map(|metadata| metadata.len()).sum();
    let mut done = 0;
    for path in paths.iter().map(Path::new) {
        let unreadable = |source| Error::Home { path: path.to_owned(), source };
        let bytes = fs::metadata(path).map_err(unreadable)?.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let known = known.iter().find(|(known, _)| known.rsplit('/').next() == Some(&name));
        let sha256 = match known.map(|(_, digits)| digits.clone()).or_else(|| told_by_place(path)) {
            Some(digits) => {
                done += bytes;
                digits
            }
            None => {
                let report = |read: u64| {
                    done += read;
                    progress.report(Progress { stage: "computing digests", done, total });
                    !cancel.is_cancelled()
                };
                hash(path, report).map_err(unreadable)?.ok_or(Error::Stopped)?
            }
        };
        files.push(ModelFile { name, bytes, sha256 });
    }
    Ok(files)
}

/// Returns the digest of a file that lies under it: Hugging Face's and Ollama's caches name large files so, and have
/// checked them.
fn told_by_place(path: &Path) -> Option<String> {
    let real = fs::canonicalize(path).ok()?;
    let folder = real.parent()?.file_name()?;
    let name = real.file_name()?.to_str()?;
    let digits = name.strip_prefix("sha256-").unwrap_or(name);
    let is_digest = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (folder == "blobs" && is_digest).then(|| digits.to_ascii_lowercase())
}

/// Reads a file through; `None` if `goes_on`, which is told of each piece, says no.
fn hash(path: &Path, mut goes_on: impl FnMut(u64) -> bool) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; PIECE];
    let mut hasher = Sha256::new();
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        hasher.update(piece.get(..read).unwrap_or_default());
        if !goes_on(read as u64) {
            return Ok(None);
        }
    }
    Ok(Some(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// Returns the space that a file, or everything in a folder, takes; links count as what they lead to.
pub(super) fn disk_bytes(path: &Path) -> u64 {
    const MAX_DEPTH: usize = 3;
    fn sum(path: &Path, depth: usize) -> u64 {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(metadata) if metadata.is_dir() && depth < MAX_DEPTH => {
                let entries = fs::read_dir(path).into_iter().flatten().flatten();
                entries.map(|entry| sum(&entry.path(), depth + 1)).sum()
            }
            _ => 0,
        }
    }
    sum(path, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_computed_unless_the_place_tells_it() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("model.gguf");
        fs::write(&file, b"abc").unwrap();
        let describe = |path: &Path| {
            let paths = [path.to_str().unwrap().to_owned()];
            super::describe(&paths, &[], &ProgressSink::default(), &CancelToken::new()).unwrap().remove(0)
        };
        let found = describe(&file);
        assert_eq!(found.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((found.name.as_str(), found.bytes), ("model.gguf", 3));

        let blobs = home.path().join("blobs");
        fs::create_dir(&blobs).unwrap();
        let blob = blobs.join(format!("sha256-{}", "0a".repeat(32)));
        fs::write(&blob, b"abc").unwrap();
        assert_eq!(describe(&blob).sha256, "0a".repeat(32));
        assert_eq!(disk_bytes(home.path()), 6);
    }

    #[test]
    fn a_cancelled_digest_is_none() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("model.gguf");
        fs::write(&file, b"abc").unwrap();
        assert_eq!(hash(&file, |_| false).unwrap(), None);
    }
}
