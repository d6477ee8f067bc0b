use std::{io, path::Path};

/// Makes a link at `path` that leads to `target`.
pub(crate) fn link(target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}
