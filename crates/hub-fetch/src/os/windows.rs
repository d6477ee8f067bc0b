use std::{
    io,
    path::{Path, PathBuf},
};

/// Makes a link at `path` that leads to `target`. Needs developer mode, or a privilege that most people do not have.
pub(crate) fn link(target: &Path, path: &Path) -> io::Result<()> {
    // A link is followed only if all its separators are those of Windows.
    let target: PathBuf = target.components().collect();
    std::os::windows::fs::symlink_file(target, path)
}
