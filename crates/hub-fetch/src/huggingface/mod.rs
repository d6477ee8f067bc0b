//! Repositories of Hugging Face, and the cache that its Python library shares.

mod listing;
mod snapshot;

pub(crate) use snapshot::Snapshot;

use std::path::PathBuf;

use hub_base::CancelToken;

use crate::{
    Error, Fetched, Fetcher, Origin, Plan, PlannedFile, Result,
    blob::is_whole,
    choose::{RepoFile, choose},
    huggingface::listing::{Listed, Listing},
    plan::Finish,
    source::Pick,
};

/// Asks for a repository's files and chooses among them; offline, among those that are in the cache.
pub(crate) fn plan(
    fetcher: &Fetcher,
    repo: &str,
    revision: &str,
    pick: &Pick,
    cancel: &CancelToken,
) -> Result<Plan> {
    let options = &fetcher.options;
    if options.is_offline {
        return offline(fetcher, repo, revision, pick);
    }
    let mut listing = Listing::ask(fetcher, repo, revision, cancel)?;
    let choice = choose(repo, &listing.repo_files(), pick, options.memory_bytes)?;
    let mut snapshot = Snapshot::new(&options.hf_cache, repo, &listing.commit);
    if revision != listing.commit {
        snapshot.remember(revision);
    }
    snapshot.main = choice.main.and_then(|main| Some(listing.files.get(main)?.name.clone()));
    let mut files = Vec::with_capacity(choice.files.len());
    for index in choice.files {
        let Some(listed) = listing.files.get_mut(index) else { continue };
        listed.complete(fetcher, repo, &listing.commit, cancel)?;
        files.push(planned(fetcher, repo, &listing.commit, &snapshot, listed)?);
    }
    let origin = Origin::HuggingFace { repo: repo.to_owned(), commit: listing.commit };
    Ok(Plan { origin, files, reason: choice.reason, finish: Finish::HuggingFace(snapshot) })
}

fn planned(
    fetcher: &Fetcher,
    repo: &str,
    commit: &str,
    snapshot: &Snapshot,
    listed: &Listed,
) -> Result<PlannedFile> {
    let url = resolve_url(&fetcher.options.hf_endpoint, repo, commit, &listed.name);
    let lasting = |reason: &str| Error::Answer { url: url.clone(), reason: reason.to_owned() };
    let (Some(bytes), Some(etag)) = (listed.bytes, listed.etag.clone()) else {
        return Err(lasting("it says neither how long the file is nor what it holds"));
    };
    if listed.digest.is_none() && (listed.name.ends_with(".gguf") || listed.name.ends_with(".safetensors")) {
        return Err(lasting("it gives no digest of the weights"));
    }
    let target = snapshot.blob(&etag);
    Ok(PlannedFile {
        name: listed.name.clone(),
        bytes,
        digest: listed.digest.clone(),
        is_here: is_whole(&target, bytes),
        bearer: fetcher.options.hf_token.clone(),
        identity: etag.clone(),
        lock: snapshot.lock(&etag),
        target,
        url,
    })
}

/// Makes a plan of what the cache holds, of which nothing is left to fetch.
fn offline(fetcher: &Fetcher, repo: &str, revision: &str, pick: &Pick) -> Result<Plan> {
    let cache = &fetcher.options.hf_cache;
    let absent = |what: String, place: PathBuf| Error::Offline { what, place: Some(place) };
    let whole = || format!("hf:{repo}");
    let Some((mut snapshot, names)) = Snapshot::find(cache, repo, revision) else {
        let folder = Snapshot::new(cache, repo, revision).path();
        return Err(match pick {
            Pick::File(name) => absent(format!("{name} of hf:{repo}"), folder.join(name)),
            Pick::Kind(_) | Pick::Fitting => absent(whole(), folder),
        });
    };
    let files: Vec<RepoFile> = names.into_iter().map(|(name, bytes)| RepoFile { name, bytes }).collect();
    let choice = match choose(repo, &files, pick, fetcher.options.memory_bytes) {
        Err(Error::NoSuchFile { asked, .. }) => {
            let place = match pick {
                Pick::File(name) => snapshot.path().join(name),
                Pick::Kind(_) | Pick::Fitting => snapshot.path(),
            };
            return Err(absent(format!("{asked} of hf:{repo}"), place));
        }
        Err(Error::NoModel { .. }) => return Err(absent(whole(), snapshot.path())),
        choice => choice?,
    };
    snapshot.main = choice.main.and_then(|main| Some(files.get(main)?.name.clone()));
    let origin = Origin::HuggingFace { repo: repo.to_owned(), commit: snapshot.commit().to_owned() };
    let reason = format!("{}; it is here already", choice.reason);
    Ok(Plan { origin, files: Vec::new(), reason, finish: Finish::HuggingFace(snapshot) })
}

/// Finds a repository in the cache.
pub(crate) fn find(fetcher: &Fetcher, repo: &str, revision: &str, pick: &Pick) -> Result<Fetched> {
    let cache = &fetcher.options.hf_cache;
    let plan = offline(fetcher, repo, revision, pick).map_err(|error| match error {
        Error::Offline { what, .. } => {
            Error::NotHere { what, places: vec![cache.clone()], there: Snapshot::repos(cache) }
        }
        error => error,
    })?;
    Ok(Fetched { path: plan.path(), origin: plan.origin, digests: Vec::new(), ollama: None })
}

/// Returns the address of a file at a commit.
fn resolve_url(endpoint: &str, repo: &str, commit: &str, name: &str) -> String {
    format!("{}/{repo}/resolve/{commit}/{}", endpoint.trim_end_matches('/'), encoded(name))
}

/// Writes a path as a part of an address.
fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
