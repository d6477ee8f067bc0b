use std::{fs::OpenOptions, io, path::Path};

/// Creates an empty file unless there is one; who can read it is inherited from its directory.
///
/// On Windows a user's data directory is private already. A file that exists keeps its content.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(false).open(path).map(drop)
}
