use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt, path::Path};

/// Creates an empty file that only its owner can read, unless there is one.
///
/// A file that exists keeps its content and its permissions.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}
