//! Reading the files beside weights: configurations, vocabularies, templates.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

/// What a configuration may take; published ones have some kilobytes.
pub const MAX_CONFIGURATION: u64 = 16 << 20;
/// What a vocabulary or an index of tensors may take; the largest published ones have 35 megabytes.
pub const MAX_VOCABULARY: u64 = 256 << 20;

/// Reads a file whole.
///
/// # Errors
/// Those of the system; for what is no regular file, which may never end, and for one of more than `most` bytes.
pub fn read_side_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let refused = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let not_a_file = || refused("it is no regular file".to_owned());
    // Asked before it is opened: opening a pipe waits for somebody who writes.
    if !fs::metadata(path)?.is_file() {
        return Err(not_a_file());
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(not_a_file());
    }
    let mut bytes = Vec::new();
    if metadata.len() <= most {
        file.take(most + 1).read_to_end(&mut bytes)?;
    }
    if metadata.len() > most || bytes.len() as u64 > most {
        return Err(refused(format!("it has over {} MiB, more than such a file can need", most >> 20)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_a_sane_length_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, "{}").unwrap();
        assert_eq!(read_side_file(&path, 2).unwrap(), b"{}");
        assert!(read_side_file(&path, 1).is_err());
        assert!(read_side_file(folder.path(), 100).is_err());
        assert_eq!(read_side_file(&folder.path().join("x"), 1).unwrap_err().kind(), io::ErrorKind::NotFound);
        #[cfg(unix)]
        assert!(read_side_file(Path::new("/dev/zero"), 100).is_err());
    }
}
