use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Error, PlannedFile, Result};

/// One commit of a repository in the cache:
/// `models--ORG--NAME/{blobs/<etag>, snapshots/<commit>/<file> -> ../../blobs/<etag>, refs/<revision>}`.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    cache: PathBuf,
    /// `models--ORG--NAME`.
    repo: String,
    commit: String,
    /// A name that leads to the commit: `main`.
    revision: Option<String>,
    /// The file that is the model; the folder is if `None`.
    pub(crate) main: Option<String>,
}

impl Snapshot {
    pub(super) fn new(cache: &Path, repo: &str, commit: &str) -> Self {
        let repo = format!("models--{}", repo.replace('/', "--"));
        Self { cache: cache.to_owned(), repo, commit: commit.to_owned(), revision: None, main: None }
    }

    /// Finds a snapshot in the cache, and the files it has, with their lengths.
    pub(super) fn find(cache: &Path, repo: &str, revision: &str) -> Option<(Self, Vec<(String, u64)>)> {
        let named = Self::new(cache, repo, revision);
        let commit = fs::read_to_string(named.folder().join("refs").join(revision));
        let commit = commit.map_or_else(|_| revision.to_owned(), |commit| commit.trim().to_owned());
        let snapshot = Self::new(cache, repo, &commit);
        let mut files = Vec::new();
        list(&snapshot.path(), "", &mut files);
        (!files.is_empty()).then_some((snapshot, files))
    }

    /// Notes a name that leads to this commit.
    pub(super) fn remember(&mut self, revision: &str) {
        self.revision = Some(revision.to_owned());
    }

    pub(super) fn commit(&self) -> &str {
        &self.commit
    }

    /// Returns where the content of that name lies.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder().join("blobs").join(etag)
    }

    /// Returns the lock that the Python library takes for the same content.
    pub(super) fn lock(&self, etag: &str) -> PathBuf {
        self.cache.join(".locks").join(&self.repo).join(format!("{etag}.lock"))
    }

    /// Puts the files in their places.
    pub(crate) fn finish(&self, files: &[PlannedFile]) -> Result<()> {
        let folder = self.path();
        for file in files {
            let path = folder.join(&file.name);
            let depth = file.name.matches('/').count();
            place(&path, &file.target, depth).map_err(Error::disk(&path))?;
        }
        if let Some(revision) = &self.revision {
            let path = self.folder().join("refs").join(revision);
            let write = || {
                fs::create_dir_all(path.parent().unwrap_or(&path))?;
                fs::write(&path, &self.commit)
            };
            write().map_err(Error::disk(&path))?;
        }
        Ok(())
    }

    /// Returns the model's file or folder.
    pub(crate) fn model(&self) -> PathBuf {
        match &self.main {
            Some(file) => self.path().join(file),
            None => self.path(),
        }
    }

    /// Lists some repositories of a cache, as sources name them.
    pub(super) fn repos(cache: &Path) -> Vec<String> {
        let repo = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let (org, repo) = name.strip_prefix("models--")?.split_once("--")?;
            Some(format!("hf:{org}/{repo}"))
        };
        crate::find::some(cache, repo)
    }

    fn folder(&self) -> PathBuf {
        self.cache.join(&self.repo)
    }

    /// Returns the folder of its files.
    pub(super) fn path(&self) -> PathBuf {
        self.folder().join("snapshots").join(&self.commit)
    }
}

/// Makes `path` lead to `blob`: by a relative link, as the Python library does, so that the cache can be moved; where
/// the system allows none, by a second name for the same bytes, else by a copy.
fn place(path: &Path, blob: &Path, depth: usize) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut relative = PathBuf::from("../../".to_owned() + &"../".repeat(depth));
    relative.push("blobs");
    relative.push(blob.file_name().unwrap_or_default());
    // One that leads nowhere is in the way.
    let _ = fs::remove_file(path);
    // Another process may have made it meanwhile; and not every system that says it made a link has made one.
    let _ = crate::os::link(&relative, path);
    if path.exists() {
        return Ok(());
    }
    fs::hard_link(blob, path).or_else(|_| fs::copy(blob, path).map(drop))
}

/// Lists the files below a folder.
fn list(folder: &Path, prefix: &str, files: &mut Vec<(String, u64)>) {
    const MAX_DEPTH: usize = 4;
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let name = format!("{prefix}{name}");
        // Follows links, which is what the files are.
        match fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_file() => files.push((name, metadata.len())),
            Ok(metadata) if metadata.is_dir() && prefix.matches('/').count() < MAX_DEPTH => {
                list(&entry.path(), &format!("{name}/"), files);
            }
            _ => {}
        }
    }
}
