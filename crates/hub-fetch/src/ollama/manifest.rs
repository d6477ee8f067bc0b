use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use hub_base::CancelToken;
use serde::Deserialize;
use ureq::http::StatusCode;

use super::{WEIGHTS, blob_path, refused, token};
use crate::{Digest, Error, Fetcher, Result, web::Ask};

/// How long a manifest, and each text that it names, may be.
const MAX_TEXT_BYTES: u64 = 4 << 20;
const ACCEPT: &str =
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json";

/// What a model consists of.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Manifest {
    config: Layer,
    layers: Vec<Layer>,
}

/// A blob with its purpose.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Layer {
    media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
}

/// A manifest, and where it and its blobs are kept.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(super) manifest: Manifest,
    pub(super) text: Vec<u8>,
    pub(super) kept: PathBuf,
    pub(super) blobs: PathBuf,
}

/// What the registry says of a model beside its weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extras {
    /// The licences, as texts.
    pub licenses: Vec<String>,
    /// Sampling and other settings, as a JSON object.
    pub params: Option<String>,
    /// What the model is told before a conversation.
    pub system: Option<String>,
    /// The template in the language of Go, which is not run here.
    pub template: Option<String>,
    /// Adapters on top of the weights.
    pub adapters: Vec<PathBuf>,
    /// The part that sees.
    pub projector: Option<PathBuf>,
}

/// Returns the digits of every blob that a manifest names; none if it is no manifest.
pub(crate) fn digests(text: &[u8]) -> Vec<String> {
    let manifest: Option<Manifest> = serde_json::from_slice(text).ok();
    let digest = |layer: &Layer| Digest::sha256(&layer.digest).map(|digest| digest.digits().to_owned());
    manifest.iter().flat_map(Manifest::layers).filter_map(digest).collect()
}

impl Manifest {
    pub(super) fn parse(text: &[u8], registry: &str) -> Result<Self> {
        let answer = |reason: String| Error::Answer { url: registry.to_owned(), reason };
        let manifest: Self = serde_json::from_slice(text).map_err(|error| answer(error.to_string()))?;
        if manifest.layers.iter().any(|layer| layer.word() == WEIGHTS) {
            Ok(manifest)
        } else {
            Err(answer("its manifest names no GGUF model".to_owned()))
        }
    }

    /// Iterates over all blobs, the weights first: if they do not fit, nothing else needs to come.
    pub(super) fn layers(&self) -> impl Iterator<Item = &Layer> {
        let (weights, others): (Vec<_>, Vec<_>) =
            self.layers.iter().partition(|layer| layer.word() == WEIGHTS);
        weights.into_iter().chain(others).chain([&self.config])
    }

    fn of(&self, word: &str) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(move |layer| layer.word() == word)
    }
}

impl Layer {
    /// Returns what the blob is for: `model`, `params`, `license`.
    pub(super) fn word(&self) -> &str {
        let known = self.media_type.strip_prefix("application/vnd.ollama.image.");
        known.unwrap_or("config")
    }
}

impl Model {
    /// Keeps the manifest, and returns what lies beside the weights.
    pub(crate) fn finish(&self) -> Result<Extras> {
        if let Some(folder) = self.kept.parent() {
            fs::create_dir_all(folder).map_err(Error::disk(folder))?;
        }
        fs::write(&self.kept, &self.text).map_err(Error::disk(&self.kept))?;
        self.extras()
    }

    /// Returns where the weights lie.
    pub(crate) fn weights(&self) -> PathBuf {
        self.manifest.of(WEIGHTS).find_map(|layer| self.path(layer)).unwrap_or_default()
    }

    /// Reads what lies beside the weights.
    pub(super) fn extras(&self) -> Result<Extras> {
        let text = |word| self.manifest.of(word).filter_map(|layer| self.path(layer)).map(|path| read(&path));
        Ok(Extras {
            licenses: text("license").collect::<Result<_>>()?,
            params: text("params").next().transpose()?,
            system: text("system").next().transpose()?,
            template: text("template").next().transpose()?,
            adapters: self.manifest.of("adapter").filter_map(|layer| self.path(layer)).collect(),
            projector: self.manifest.of("projector").find_map(|layer| self.path(layer)),
        })
    }

    fn path(&self, layer: &Layer) -> Option<PathBuf> {
        Some(blob_path(&self.blobs, &Digest::sha256(&layer.digest)?))
    }
}

/// Asks for a manifest: its bytes, and the token that opened the registry if one was needed.
pub(super) fn ask(
    fetcher: &Fetcher,
    url: &str,
    name: &str,
    tag: &str,
    cancel: &CancelToken,
) -> Result<(Vec<u8>, Option<String>)> {
    let mut bearer = None;
    loop {
        let ask = Ask { url, accept: Some(ACCEPT), bearer: bearer.as_deref(), ..Ask::default() };
        let (head, text) = fetcher.web.read(&ask, MAX_TEXT_BYTES, cancel)?;
        if head.status == StatusCode::UNAUTHORIZED && bearer.is_none() {
            let token = token::ask(fetcher, &head.headers, cancel)?;
            bearer = Some(token.ok_or_else(|| refused(url, name, tag, StatusCode::UNAUTHORIZED))?);
            continue;
        }
        if !head.status.is_success() {
            return Err(refused(url, name, tag, head.status));
        }
        return Ok((text, bearer));
    }
}

/// Reads a manifest that was kept; `None` if there is no such file, or it is none that a manifest could be.
pub(super) fn read_kept(path: &Path) -> Option<Vec<u8>> {
    let metadata = fs::metadata(path).ok()?;
    // A pipe would be waited for.
    (metadata.is_file() && metadata.len() <= MAX_TEXT_BYTES).then(|| fs::read(path).ok()).flatten()
}

fn read(path: &Path) -> Result<String> {
    let mut text = Vec::new();
    let file = fs::File::open(path).map_err(Error::disk(path))?;
    file.take(MAX_TEXT_BYTES).read_to_end(&mut text).map_err(Error::disk(path))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
