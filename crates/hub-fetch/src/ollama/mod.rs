//! The Ollama registry: manifests and blobs, as OCI registries serve them.

mod manifest;
mod token;

pub use manifest::Extras;
pub(crate) use manifest::{Model, digests};

use std::path::{Path, PathBuf};

use hub_base::CancelToken;

use crate::{
    Digest, Error, FetchOptions, Fetched, Fetcher, Origin, Plan, PlannedFile, Result,
    blob::is_whole,
    ollama::manifest::{Layer, Manifest},
    plan::Finish,
    web::host_of,
};

/// What the weights of a manifest are called among its files.
pub(crate) const WEIGHTS: &str = "model";

/// Asks for a manifest, and plans to fetch all that it names.
pub(crate) fn plan(fetcher: &Fetcher, name: &str, tag: &str, cancel: &CancelToken) -> Result<Plan> {
    let options = &fetcher.options;
    let registry = options.ollama_registry.trim_end_matches('/');
    let home = options.models.join("ollama");
    let kept = home.join("manifests").join(name).join(tag);
    let absent = |place: &Path| Error::Offline {
        what: format!("ollama:{}:{tag}", short(name)),
        place: Some(place.to_owned()),
    };
    let (text, bearer) = if options.is_offline {
        let text = manifest::read_kept(&kept).ok_or_else(|| absent(&kept))?;
        (text, None)
    } else {
        manifest::ask(fetcher, &format!("{registry}/v2/{name}/manifests/{tag}"), name, tag, cancel)?
    };
    let manifest = Manifest::parse(&text, registry)?;
    let origin = Origin::Ollama { name: name.to_owned(), tag: tag.to_owned() };
    let file = |layer: &Layer| planned(&home, registry, name, bearer.as_deref(), layer);
    let files: Vec<PlannedFile> = manifest.layers().map(file).collect::<Result<_>>()?;
    if options.is_offline
        && let Some(missing) = files.iter().find(|file| !file.is_here)
    {
        return Err(absent(&missing.target));
    }
    let model = Model { manifest, text, kept, blobs: home.join("blobs") };
    Ok(Plan { origin, files, reason: "its manifest names it".to_owned(), finish: Finish::Ollama(model) })
}

/// Finds a model that was fetched by Ollama itself, or from its registry by a pull.
pub(crate) fn find(options: &FetchOptions, name: &str, tag: &str) -> Result<Fetched> {
    let own = options.models.join("ollama");
    let theirs = options.ollama_models.clone();
    // Ollama keeps manifests by registry, and this crate those of the one that is set.
    let places = [
        Some((own.join("manifests"), own.join("blobs"))),
        theirs.map(|home| (home.join("manifests/registry.ollama.ai"), home.join("blobs"))),
    ];
    for (manifests, blobs) in places.iter().flatten() {
        let Some(text) = manifest::read_kept(&manifests.join(name).join(tag)) else { continue };
        let manifest = Manifest::parse(&text, &manifests.display().to_string())?;
        let model = Model { manifest, text, kept: PathBuf::new(), blobs: blobs.clone() };
        let (path, ollama) = (model.weights(), model.extras()?);
        let origin = Origin::Ollama { name: name.to_owned(), tag: tag.to_owned() };
        return Ok(Fetched { path, origin, digests: Vec::new(), ollama: Some(ollama) });
    }
    let places: Vec<PathBuf> = places.into_iter().flatten().map(|(manifests, _)| manifests).collect();
    let there = places.iter().flat_map(|manifests| tags(manifests)).collect();
    Err(Error::NotHere { what: format!("ollama:{}:{tag}", short(name)), places, there })
}

/// Lists some models of a folder of manifests, as sources name them.
fn tags(manifests: &Path) -> Vec<String> {
    let library = manifests.join("library");
    let name = |entry: std::fs::DirEntry| entry.file_name().into_string().ok();
    let tagged = |model: String| {
        let tags = crate::find::some(&library.join(&model), name);
        tags.into_iter().map(move |tag| format!("ollama:{model}:{tag}"))
    };
    crate::find::some(&library, name).into_iter().flat_map(tagged).collect()
}

fn planned(
    home: &Path,
    registry: &str,
    name: &str,
    bearer: Option<&str>,
    layer: &Layer,
) -> Result<PlannedFile> {
    let digest = Digest::sha256(&layer.digest).ok_or_else(|| Error::Answer {
        url: registry.to_owned(),
        reason: format!("{:?} is no digest", layer.digest.chars().take(80).collect::<String>()),
    })?;
    let target = blob_path(&home.join("blobs"), &digest);
    Ok(PlannedFile {
        name: layer.word().to_owned(),
        bytes: layer.size,
        is_here: is_whole(&target, layer.size),
        url: format!("{registry}/v2/{name}/blobs/sha256:{}", digest.digits()),
        bearer: bearer.map(str::to_owned),
        identity: digest.to_string(),
        lock: target.with_extension("lock"),
        digest: Some(digest),
        target,
    })
}

/// Returns a name as people write it: those of the registry's own models are short.
fn short(name: &str) -> &str {
    name.strip_prefix("library/").unwrap_or(name)
}

/// Returns where a blob lies, by the name that Ollama itself gives it.
fn blob_path(blobs: &Path, digest: &Digest) -> PathBuf {
    blobs.join(format!("sha256-{}", digest.digits()))
}

/// Says what a refusal of the registry means.
fn refused(url: &str, name: &str, tag: &str, status: ureq::http::StatusCode) -> Error {
    match status.as_u16() {
        401 | 403 => Error::Denied {
            what: format!("{}:{tag}", short(name)),
            next: format!("{} serves it to nobody without an account", host_of(url)),
        },
        404 => {
            Error::NotFound { what: format!("model {}:{tag}", short(name)), registry: host_of(url), hint: "" }
        }
        status => Error::Status { url: url.to_owned(), status },
    }
}
