use std::{
    fs,
    path::{Path, PathBuf},
};

/// What the rules look at: the packages under `crates/` and `bins/`.
pub(super) struct Workspace {
    root: PathBuf,
    pub(super) manifest: toml::Table,
    pub(super) packages: Vec<Package>,
}

/// One package and where it stands.
pub(super) struct Package {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) manifest: toml::Table,
    directory: PathBuf,
}

/// Whether a package is a library for anybody, or a program of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Under `crates/`.
    Library,
    /// Under `bins/`.
    Program,
}

impl Workspace {
    pub(super) fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut packages = read_packages(&root.join("crates"), Place::Library);
        packages.extend(read_packages(&root.join("bins"), Place::Program));
        Self { manifest: read_toml(&root.join("Cargo.toml")), packages, root }
    }

    pub(super) fn libraries(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.place == Place::Library)
    }

    pub(super) fn code_map(&self) -> String {
        fs::read_to_string(self.root.join("crates/README.md")).unwrap()
    }
}

impl Package {
    /// Describes a package that is on no disk.
    pub(super) fn pretend(place: Place, manifest: &str) -> Self {
        Self::new(place, PathBuf::new(), manifest.parse().unwrap())
    }

    fn new(place: Place, directory: PathBuf, manifest: toml::Table) -> Self {
        let name = manifest["package"]["name"].as_str().unwrap().to_owned();
        Self { name, place, manifest, directory }
    }

    /// Returns every source file with its text.
    pub(super) fn sources(&self) -> Vec<(PathBuf, String)> {
        let mut files = Vec::new();
        collect(&self.directory.join("src"), &mut files);
        files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
    }

    /// Returns the text of the file that the compiler starts with.
    pub(super) fn root_source(&self) -> String {
        let candidates = ["lib.rs", "main.rs"].map(|name| self.directory.join("src").join(name));
        fs::read_to_string(candidates.into_iter().find(|path| path.exists()).unwrap()).unwrap()
    }
}

fn read_packages(directory: &Path, place: Place) -> Vec<Package> {
    let mut directories: Vec<_> =
        entries(directory).into_iter().filter(|path| path.join("Cargo.toml").exists()).collect();
    directories.sort();
    directories
        .into_iter()
        .map(|directory| {
            let manifest = read_toml(&directory.join("Cargo.toml"));
            Package::new(place, directory, manifest)
        })
        .collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for path in entries(directory) {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn read_toml(path: &Path) -> toml::Table {
    fs::read_to_string(path).unwrap().parse().unwrap()
}
