//! A file that gets its name once it is whole.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use super::Existing;
use crate::weights::{Error, Weights, gguf};

/// What follows the name of a file that is not whole yet.
const PART: &str = ".part-";

/// A file that is being written. It is deleted unless it is finished.
#[derive(Debug)]
pub(super) struct Unfinished {
    file: File,
    path: PathBuf,
    target: PathBuf,
    existing: Existing,
    is_finished: bool,
}

impl Unfinished {
    /// Begins a file that will be at `target`, and deletes what killed processes left of others there.
    pub(super) fn create(target: &Path, existing: Existing, sources: &Weights) -> Result<Self, Error> {
        let save = |source: io::Error| Error::Save { path: target.to_owned(), source };
        let real = fs::canonicalize(target).ok();
        let is_source = |file: &str| real.is_some() && fs::canonicalize(file).ok() == real;
        if sources.files().any(is_source) {
            return Err(Error::OwnSource { path: target.to_owned() });
        }
        check_free(target, existing)?;
        let name = target.file_name().ok_or_else(|| save(io::ErrorKind::InvalidInput.into()))?;
        let stem = format!("{}{PART}", name.to_string_lossy());
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        delete_abandoned_parts(folder, &stem);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let path = folder.join(format!("{stem}{}-{now}", std::process::id()));
        let file = File::create_new(&path).map_err(save)?;
        // Tells it from what was abandoned.
        drop(file.try_lock());
        Ok(Self { file, path, target: target.to_owned(), existing, is_finished: false })
    }

    /// Returns where the content goes.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        let save = |source: io::Error| Error::Save { path: self.target.clone(), source };
        self.file.sync_all().map_err(save)?;
        // Somebody may have put one there meanwhile.
        check_free(&self.target, self.existing)?;
        fs::rename(&self.path, &self.target).map_err(save)?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_finished {
            drop(fs::remove_file(&self.path));
        }
    }
}

fn check_free(target: &Path, existing: Existing) -> Result<(), Error> {
    match fs::symlink_metadata(target) {
        Ok(_) if existing == Existing::Keep => Err(Error::Exists { path: target.to_owned() }),
        Ok(there) if !is_replaceable(target, &there) => Err(Error::NotReplaced { path: target.to_owned() }),
        _ => Ok(()),
    }
}

/// Tells whether something is a GGUF file, an empty one, or a link that leads nowhere: what may be replaced. A folder, a pipe
/// or a device is not, nor is a file that somebody named by mistake.
fn is_replaceable(path: &Path, there: &Metadata) -> bool {
    match fs::metadata(path) {
        Ok(led_to) if led_to.is_file() => {
            let mut start = Vec::new();
            let read =
                File::open(path).and_then(|file| file.take(gguf::MAGIC.len() as u64).read_to_end(&mut start));
            read.is_ok() && (start.is_empty() || start == gguf::MAGIC)
        }
        Ok(_) => false,
        Err(_) => there.is_symlink(),
    }
}

/// Deletes unfinished files that killed processes left in a folder of our own.
pub fn delete_abandoned(folder: &Path) {
    delete_abandoned_parts(folder, "");
}

/// Deletes files of this beginning that nobody holds: whoever writes one has it locked.
fn delete_abandoned_parts(folder: &Path, stem: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_part = name.starts_with(stem) && name.contains(PART);
        let is_file = is_part && entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            // What cannot be deleted is in nobody's way.
            drop(fs::remove_file(entry.path()));
        }
    }
}
