//! Packed weights on disk: what the executor for processors makes of a model's files, kept for the next load.
//!
//! `packed/DIGEST-FORM.pack` in the home, by where the weights' files are and what they hash to, so that names for one
//! model share it. All together take no more than the settings allow; who was not used for longest leaves first. Once the
//! settings allow none, none is read or written, and what is there leaves with its model.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};

use super::Installed;
use crate::{Error, Result, os::create_private_dir};

/// The files of packed weights.
#[derive(Clone, Debug)]
pub(crate) struct PackedCache {
    folder: PathBuf,
    /// Bytes of all files together; none are written if this is 0.
    limit: u64,
    /// What tells apart the forms that one model's weights are packed in.
    form: &'static str,
}

/// How long after its last byte an unfinished file may still be somebody's.
const UNFINISHED: Duration = Duration::from_secs(600);

/// One of them.
struct Entry {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl Entry {
    fn is_of(&self, digits: &str) -> bool {
        let name = self.path.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.strip_prefix(digits)).is_some_and(|rest| rest.starts_with('-'))
    }

    fn is_being_written(&self) -> bool {
        let is_whole = self.path.extension().is_some_and(|extension| extension == "pack");
        !is_whole && self.used.elapsed().is_ok_and(|age| age < UNFINISHED)
    }
}

impl PackedCache {
    pub(crate) fn new(folder: PathBuf, limit: u64, form: &'static str) -> Self {
        Self { folder, limit, form }
    }

    /// Returns the file for a model's packed weights, with room made for it; `None` if none are kept, or not these.
    pub(crate) fn file_for(&self, model: &Installed) -> Option<PathBuf> {
        let path = self.folder.join(format!("{}-{}.pack", digest(model)?, self.form));
        if self.limit == 0 {
            return None;
        }
        if let Ok(file) = File::options().append(true).open(&path) {
            // Says that it was used; if that fails, it leaves earlier.
            drop(file.set_modified(SystemTime::now()));
            return Some(path);
        }
        // Scales of few bits become bytes: Q2_K grows most, by a fifth.
        let needed = model.bytes.saturating_add(model.bytes / 5);
        if needed > self.limit || create_private_dir(&self.folder).is_err() {
            return None;
        }
        self.trim_to(self.limit - needed);
        Some(path)
    }

    /// Deletes who was not used for longest until all take what they may.
    pub(crate) fn trim(&self) {
        if self.limit > 0 {
            self.trim_to(self.limit);
        }
    }

    /// Notes with each model how many bytes its packed weights take.
    pub(crate) fn measure(&self, models: &mut [Installed]) {
        let entries = self.entries();
        for model in models.iter_mut().filter(|_| !entries.is_empty()) {
            let Some(digits) = digest(model) else { continue };
            model.packed_bytes =
                entries.iter().filter(|entry| entry.is_of(&digits)).map(|entry| entry.bytes).sum();
        }
    }

    /// Deletes a model's packed weights, and returns how many bytes they took.
    ///
    /// # Errors
    /// [`Error::Home`] naming the file that cannot be deleted.
    pub(crate) fn remove(&self, model: &Installed) -> Result<u64> {
        let Some(digits) = digest(model) else { return Ok(0) };
        let mut freed = 0;
        for Entry { path, bytes, .. } in self.entries().into_iter().filter(|entry| entry.is_of(&digits)) {
            match fs::remove_file(&path) {
                Ok(()) => freed += bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Home { path, source }),
            }
        }
        Ok(freed)
    }

    fn trim_to(&self, limit: u64) {
        // What is being written leaves only if nobody can be writing it any more.
        let mut entries = self.entries();
        entries.retain(|entry| !entry.is_being_written());
        entries.sort_by_key(|entry| entry.used);
        let mut all: u64 = entries.iter().map(|entry| entry.bytes).sum();
        for entry in entries {
            if all <= limit {
                break;
            }
            if fs::remove_file(&entry.path).is_ok() {
                all -= entry.bytes;
            }
        }
    }

    /// Lists the files, those that a killed process left unfinished among them.
    fn entries(&self) -> Vec<Entry> {
        let entry = |entry: fs::DirEntry| {
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            Some(Entry { path: entry.path(), bytes: metadata.len(), used })
        };
        fs::read_dir(&self.folder).into_iter().flatten().flatten().filter_map(entry).collect()
    }
}

/// Returns what a model's files hash to together with their place; `None` for the built-in one and for models of older versions.
fn digest(model: &Installed) -> Option<String> {
    if model.files.is_empty() {
        return None;
    }
    let mut hasher = Sha256::new();
    hasher.update(model.path.as_ref()?.to_string_lossy().as_bytes());
    model.files.iter().for_each(|file| hasher.update(&file.sha256));
    Some(hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}
