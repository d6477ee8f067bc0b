use std::{io, path::Path};

/// Links of files need a privilege on Windows that most people do not have.
pub(crate) fn link(_target: &Path, _path: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
