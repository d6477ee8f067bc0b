//! Packed weights on disk: what the executor for processors makes of a model's files, kept for the next load.
//!
//! `packed/DIGEST-FORM.pack` in the home, by where the weights' files are and what they hash to, so that names for one
//! model share it. All together take no more than the settings allow; who was not used for longest leaves first. Once the
//! settings allow none, none is read or written, and what is there leaves with its model.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use hub_base::{ModelId, Size};
use hub_nn::weights::PackedPlace;
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
    form: String,
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

    fn is_whole(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "pack")
    }

    /// Whether a process is writing it: it holds its lock, or may do without one where there are none.
    fn is_being_written(&self) -> bool {
        let Ok(file) = File::open(&self.path) else { return false };
        match file.try_lock() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(_)) => self.used.elapsed().is_ok_and(|age| age < UNFINISHED),
        }
    }
}

impl PackedCache {
    pub(crate) fn new(folder: PathBuf, limit: u64, form: String) -> Self {
        Self { folder, limit, form }
    }

    /// Returns the place for a model's packed weights; `None` if none are kept, or not these.
    pub(crate) fn place_for(&self, model: &Installed) -> Option<PackedPlace> {
        let path = self.folder.join(format!("{}-{}.pack", digest(model)?, self.form));
        if self.limit == 0 {
            return None;
        }
        if let Err(error) = create_private_dir(&self.folder) {
            tracing::warn!(path = %self.folder.display(), %error, "packed weights are not kept");
            return None;
        }
        // A pipe in its place would be waited for.
        if fs::metadata(&path).is_ok_and(|metadata| metadata.is_file())
            && let Ok(file) = File::options().append(true).open(&path)
        {
            // Says that it was used; if that fails, it leaves earlier.
            drop(file.set_modified(SystemTime::now()));
        }
        let (cache, name) = (self.clone(), model.name.clone());
        Some(PackedPlace::new(path).make_room(move |bytes| cache.make_room(&name, bytes)))
    }

    /// Deletes who was not used for longest until there is room for so many bytes, if there can be.
    fn make_room(&self, name: &ModelId, bytes: u64) -> bool {
        let Some(left) = self.limit.checked_sub(bytes) else {
            let (needed, room) = (Size(bytes), Size(self.limit));
            tracing::warn!(
                "packed weights of {name} are not kept: {needed}, and models.packed_cache is {room}"
            );
            return false;
        };
        self.trim_to(left);
        true
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
            model.packed_bytes = entries
                .iter()
                .filter(|entry| entry.is_of(&digits) && entry.is_whole())
                .map(|entry| entry.bytes)
                .sum();
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
        // What a killed process left unfinished is of no use; what is being written counts when it is whole.
        let (mut entries, unfinished): (Vec<_>, Vec<_>) =
            self.entries().into_iter().partition(|entry| entry.is_whole());
        for entry in unfinished.iter().filter(|entry| !entry.is_being_written()) {
            drop(fs::remove_file(&entry.path));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &std::path::Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn room_is_made_by_who_was_not_used_for_longest_and_no_more_than_needed() {
        let folder = tempfile::tempdir().unwrap();
        for (age, name) in ["new.pack", "middle.pack", "old.pack"].into_iter().enumerate() {
            let path = folder.path().join(name);
            fs::write(&path, [0; 100]).unwrap();
            let used = SystemTime::now() - Duration::from_secs(age as u64);
            File::options().append(true).open(path).unwrap().set_modified(used).unwrap();
        }
        let cache = PackedCache::new(folder.path().to_owned(), 400, "stored".to_owned());
        let name = ModelId::new("it").unwrap();
        assert!(!cache.make_room(&name, 401), "more than there may be of all");
        assert!(cache.make_room(&name, 100));
        assert_eq!(names(folder.path()), ["middle.pack", "new.pack", "old.pack"]);
        assert!(cache.make_room(&name, 150));
        assert_eq!(names(folder.path()), ["middle.pack", "new.pack"]);
    }

    #[test]
    fn what_a_killed_process_left_goes_and_what_is_being_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.pack", "a.part-1-1", "a.part-2-2"] {
            fs::write(folder.path().join(name), [0; 10]).unwrap();
        }
        let held = File::open(folder.path().join("a.part-2-2")).unwrap();
        held.lock().unwrap();
        let cache = PackedCache::new(folder.path().to_owned(), 1_000, "stored".to_owned());
        cache.trim();
        assert_eq!(names(folder.path()), ["a.pack", "a.part-2-2"]);
        drop(held);
        cache.trim();
        assert_eq!(names(folder.path()), ["a.pack"]);
    }
}
