use std::{fs, io, path::Path};

/// Creates a directory, and those above it. Who can enter is inherited from where it lies.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}
