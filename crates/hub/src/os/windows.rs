use std::{
    fs, io,
    path::{Component, Path, PathBuf, Prefix},
    process::{Command, Stdio},
};

use super::Cards;

/// Creates a directory, and those above it. Who can enter is inherited from where it lies.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Large pages are a privilege here, which services have and people do not.
pub(crate) fn huge_pages() -> Option<String> {
    None
}

/// Returns the graphics cards that models could run on: those that the driver's own program lists, a line each.
pub(crate) fn cards() -> Cards {
    let listed = Command::new("nvidia-smi").arg("-L").stdin(Stdio::null()).output();
    let listed = listed.map_or_else(|_| Vec::new(), |output| output.stdout);
    let count = String::from_utf8_lossy(&listed).lines().filter(|line| line.starts_with("GPU ")).count();
    Cards { count, feature: "cuda" }
}

/// Returns where a path leads, as disks name their places: `C:\data`, not `\\?\C:\data`.
pub(crate) fn real_path(path: &Path) -> io::Result<PathBuf> {
    let path = path.canonicalize()?;
    let mut parts = path.components();
    Ok(match parts.next() {
        Some(Component::Prefix(prefix)) => match prefix.kind() {
            Prefix::VerbatimDisk(letter) => {
                Path::new(&format!("{}:", char::from(letter))).join(parts.as_path())
            }
            _ => path,
        },
        _ => path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_as_its_disk_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = real_path(folder.path()).unwrap();
        let Some(Component::Prefix(prefix)) = path.components().next() else { unreachable!("{path:?}") };
        assert!(matches!(prefix.kind(), Prefix::Disk(_)), "{path:?}");
        assert!(path.is_absolute() && path.is_dir(), "{path:?}");
        assert!(crate::os::free_disk_bytes(folder.path()).is_some());
    }
}
