//! What was pulled into the hub's own directory, and nobody else's.

use std::{collections::HashSet, fs, io, path::Path};

use crate::{Error, Result, ollama};

/// Deletes the files of a model that was pulled into `models`, and returns how many bytes that freed.
///
/// A blob of the Ollama registry that another model names as well stays. What lies elsewhere (the Hugging Face cache, a
/// file of the user's) is nobody's to delete: nothing happens, and 0 is returned.
///
/// # Errors
/// [`Error::Disk`] if a file cannot be deleted.
pub fn remove_owned(models: &Path, path: &Path) -> Result<u64> {
    let addresses = models.join("addresses");
    if let Some(folder) = path.parent().filter(|folder| folder.parent() == Some(addresses.as_path())) {
        let bytes = size(folder);
        fs::remove_dir_all(folder).map_err(Error::disk(folder))?;
        return Ok(bytes);
    }
    let home = models.join("ollama");
    let digest = path.file_name().and_then(|name| name.to_str()?.strip_prefix("sha256-"));
    match digest.filter(|_| path.parent() == Some(home.join("blobs").as_path())) {
        Some(digest) => remove_ollama(&home, digest),
        None => Ok(0),
    }
}

/// Deletes the manifests whose weights these are, and the blobs that they name and no other does.
fn remove_ollama(home: &Path, weights: &str) -> Result<u64> {
    let (mut named, mut kept) = (HashSet::from([weights.to_owned()]), HashSet::new());
    for manifest in files(&home.join("manifests")) {
        let text = fs::read(&manifest).map_err(Error::disk(&manifest))?;
        let digests = ollama::digests(&text);
        if digests.iter().any(|digest| digest == weights) {
            fs::remove_file(&manifest).map_err(Error::disk(&manifest))?;
            named.extend(digests);
        } else {
            kept.extend(digests);
        }
    }
    let mut freed = 0;
    for digest in named.difference(&kept) {
        let blob = home.join("blobs").join(format!("sha256-{digest}"));
        freed += blob.metadata().map_or(0, |metadata| metadata.len());
        for path in [blob.with_extension("lock"), blob] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::disk(&path)(error));
                }
                _ => {}
            }
        }
    }
    Ok(freed)
}

/// Lists the files below a folder, three levels deep, which is as deep as names of models go.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < 3 => folders.push((entry.path(), depth + 1)),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

fn size(folder: &Path) -> u64 {
    files(folder).iter().filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}
