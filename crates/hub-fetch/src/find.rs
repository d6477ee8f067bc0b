use std::{fs, path::Path};

/// The most names that an error lists.
const MOST: usize = 12;

/// Lists what `name` makes of the entries of a folder, sorted, without hidden ones; none if there is no such folder.
pub(crate) fn some(folder: &Path, name: impl Fn(fs::DirEntry) -> Option<String>) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(name).filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names.truncate(MOST);
    names
}
