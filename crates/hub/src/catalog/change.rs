//! Models that come and go.

use std::path::Path;

use hub_base::{CancelToken, ModelId, ProgressSink, whole_of_shard};
use hub_models::{Preset, Source};
use hub_router::AUTO;
use hub_store::ModelRow;
use serde::Serialize;

use super::{
    GUIDE, Installed, ModelOrigin, files,
    record::{Details, IMPORT, main_kind, saturate},
};
use crate::{
    Error, Hub, Result,
    caller::now_ms,
    open::{CancelOnDrop, blocking},
};

/// How a model came here, and what came with it.
#[derive(Debug, Default)]
pub(crate) struct Arrival {
    /// Where it was had from.
    pub(crate) source: String,
    /// What was said of its use.
    pub(crate) preset: Preset,
    /// Its licence, where its files do not name it.
    pub(crate) license: Option<String>,
    /// What its owner should know of it.
    pub(crate) notes: Vec<String>,
    /// Whether it came with a chat template of a form that is not known here.
    pub(crate) is_template_unknown: bool,
    /// Adapters that belong to it.
    pub(crate) adapters: Vec<String>,
    /// Whether the hub fetched it, and did not find it here.
    pub(crate) is_fetched: bool,
    /// Digests of its files, where they were verified already: their names, and 64 digits.
    pub(crate) digests: Vec<(String, String)>,
    /// Where progress of reading it is sent.
    pub(crate) progress: ProgressSink,
    /// Stops the reading.
    pub(crate) cancel: CancelToken,
}

impl Arrival {
    /// A model from somewhere, with nothing said of it.
    pub(crate) fn by(source: impl Into<String>) -> Self {
        Self { source: source.into(), ..Self::default() }
    }
}

/// A model that was forgotten.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Removed {
    /// How it was listed.
    #[serde(flatten)]
    pub model: Installed,
    /// Bytes of the files that were deleted: those that the hub pulled or wrote for it alone.
    pub freed_bytes: u64,
    /// Bytes of its packed weights, which were deleted too.
    pub packed_bytes: u64,
}

impl Hub {
    /// Makes a Hugging Face folder or a GGUF file usable where it lies.
    ///
    /// It is not copied. It is read once, so that what would fail at its first use fails now, and so that its digests
    /// are known. Without `name` it is called after its file or folder.
    ///
    /// # Errors
    /// [`Error::NoModelAt`] if nothing is there, [`Error::Models`] if it is no model this hub can run,
    /// [`Error::NoName`] or [`Error::ReservedName`] for a name it cannot have, [`Error::Store`] for one that is taken.
    pub async fn import(
        &self,
        path: &Path,
        name: Option<ModelId>,
        progress: ProgressSink,
    ) -> Result<Installed> {
        let no_model = |source| Error::NoModelAt { path: path.to_owned(), source };
        let given = path.to_owned();
        // A file of Hugging Face's cache is a link to one without a name, so links stay what they are.
        let there = move || std::path::absolute(given).and_then(|path| path.metadata().map(|_| path));
        let path = blocking(there).await?.map_err(no_model)?;
        let name = match name {
            Some(name) => name,
            None => name_of(&path)?,
        };
        self.install(&path, name, Arrival { progress, ..Arrival::by(IMPORT) }).await
    }

    /// Makes the file or folder at `path` usable under a name.
    ///
    /// # Errors
    /// As [`Hub::import`].
    pub(crate) async fn install(&self, path: &Path, name: ModelId, arrival: Arrival) -> Result<Installed> {
        let text = path.to_str().ok_or_else(|| Error::PathNotText { path: path.to_owned() })?.to_owned();
        let older = self.claim(&name, &arrival.source).await?;
        if let Some(older) = &older
            && older.path.as_deref() == Some(path)
        {
            return Ok(older.clone());
        }
        let source = arrival.source.clone();
        let row = read(path, text, name.clone(), arrival).await?;
        if let Some(older) = older {
            // What is pulled again has changed where it came from.
            self.remove(older.name.as_str()).await?;
        }
        match self.store().catalog().insert(&row).await {
            // Whoever pulled the same meanwhile was first.
            Err(error @ hub_store::Error::NameTaken { .. }) => match self.claim(&name, &source).await? {
                Some(there) if there.path.as_deref() == Some(path) => return Ok(there),
                _ => return Err(error.into()),
            },
            inserted => inserted?,
        }
        self.model(name.as_str()).await
    }

    /// Returns the model that a model from `source` may replace under this name: one from the same place. Nothing if
    /// the name is free.
    ///
    /// # Errors
    /// [`Error::ReservedName`], or [`Error::Store`] if the name is another model's.
    pub(crate) async fn claim(&self, name: &ModelId, source: &str) -> Result<Option<Installed>> {
        if name.as_str() == GUIDE || name.as_str() == AUTO {
            return Err(Error::ReservedName { name: name.clone() });
        }
        let Some(there) = self.installed().await?.into_iter().find(|model| model.name == *name) else {
            return Ok(None);
        };
        // A commit says which content, not which place.
        let place = |source: &str| source.split('@').next().unwrap_or_default().to_owned();
        if source != IMPORT && place(source) == place(&there.source) {
            return Ok(Some(there));
        }
        Err(hub_store::Error::NameTaken { what: "model", name: name.to_string() }.into())
    }

    /// Forgets a model whose file has been replaced, and unloads it; the file stays.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(crate) async fn forget(&self, model: &Installed) -> Result<()> {
        let (registry, name) = (self.registry().clone(), model.name.clone());
        blocking(move || registry.forget(&name)).await?;
        self.store().catalog().remove(&model.name).await?;
        Ok(())
    }

    /// Forgets a model and unloads it. Files that the hub pulled or wrote into its own directory for it are deleted; all others
    /// belong to whoever put them there and stay.
    ///
    /// # Errors
    /// [`Error::NoSuchModel`], [`Error::Builtin`], or [`Error::Fetch`](crate::Error::Fetch) for files that cannot be
    /// deleted; [`Error::Home`] for its packed weights.
    pub async fn remove(&self, name: &str) -> Result<Removed> {
        let installed = self.model(name).await?;
        if installed.origin == ModelOrigin::Builtin {
            return Err(Error::Builtin { name: installed.name });
        }
        let (registry, name) = (self.registry().clone(), installed.name.clone());
        blocking(move || registry.forget(&name)).await?;
        let (mut freed_bytes, mut packed_bytes) = (0, 0);
        if let Some(path) = installed.path.clone() {
            // The same files may be there under another name.
            let is_other =
                |model: &Installed| model.name != installed.name && model.path.as_ref() == Some(&path);
            let is_shared = self.installed().await?.iter().any(is_other);
            if !is_shared {
                let (puller, packed, model) =
                    (self.puller().clone(), self.packed().clone(), installed.clone());
                let home = self.home().path().to_owned();
                let remove = move || {
                    let owned = puller.remove(&path)? + Self::remove_quantized(&home, &path)?;
                    Ok::<_, Error>((packed.remove(&model)?, owned))
                };
                (packed_bytes, freed_bytes) = blocking(remove).await??;
            }
        }
        // Last, so that it can be tried again if files cannot be deleted.
        self.store().catalog().remove(&installed.name).await?;
        Ok(Removed { model: installed, freed_bytes, packed_bytes })
    }
}

/// What is said of a model that cannot hold a conversation.
const NO_TEMPLATE: &str = "its chat template is of a form that is not known here, and its file holds none: it continues texts alone";

/// Reads a model's files, as far as its row in the catalog says something of them.
async fn read(path: &Path, text: String, name: ModelId, arrival: Arrival) -> Result<ModelRow> {
    let Arrival { source: came, preset, license, mut notes, is_template_unknown, adapters, .. } = arrival;
    let Arrival { is_fetched, digests, progress, cancel, .. } = arrival;
    let path = path.to_owned();
    let guard = CancelOnDrop::of(cancel);
    let cancel = guard.token();
    let (info, files, disk_bytes) = blocking(move || {
        let info = hub_models::verify(&Source::Path(path.clone()))?;
        let files = files::describe(&info.files, &digests, &progress, &cancel)?;
        // A file that is named may be one part of its model; the others lie beside it.
        let disk_bytes = match path.is_dir() {
            true => files::disk_bytes(&path),
            false => files.iter().map(|file| file.bytes).sum(),
        };
        Ok::<_, Error>((info, files, disk_bytes))
    })
    .await??;
    if is_template_unknown && !info.has_chat_template {
        notes.push(NO_TEMPLATE.to_owned());
    }
    let mut details =
        Details { files, disk_bytes, preset, notes, adapters, is_fetched, ..Details::of(&info) };
    details.license = details.license.or(license);
    let has_chat = details.capabilities.iter().any(|word| word == "chat");
    if details.preset.chat_template.is_some() && !has_chat {
        details.capabilities.insert(0, "chat".to_owned());
    }
    Ok(ModelRow {
        name,
        source: came,
        path: text,
        task: info.task.as_str().to_owned(),
        format: info.format.to_owned(),
        family: info.family.to_owned(),
        weights: main_kind(&info),
        parameters: info.parameters,
        bytes: info.file_bytes,
        context_tokens: saturate(info.context_tokens),
        details: serde_json::to_value(details).unwrap_or_default(),
        created_at_ms: now_ms(),
    })
}

/// Names a model after its file or folder; one in the Hugging Face cache after its repository.
pub(crate) fn name_of(path: &Path) -> Result<ModelId> {
    let text =
        |part: &Path| part.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // Such a folder is named by a hash: models--ORG--NAME/snapshots/HASH.
    let in_cache = path.ancestors().map(text).find_map(|part| {
        let (_, name) = part.strip_prefix("models--")?.split_once("--")?;
        Some(name.to_owned())
    });
    let name = text(path);
    let stem = name.strip_suffix(".gguf").unwrap_or(&name);
    let name = match &in_cache {
        Some(name) if path.is_dir() => name,
        _ => whole_of_shard(stem).unwrap_or(stem),
    };
    ModelId::new(name).map_err(|source| Error::NoName { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<&str>) {
        let name = name_of(Path::new(path)).ok();
        assert_eq!(name.as_ref().map(ModelId::as_str), expected);
    }

    #[test]
    fn a_model_is_named_after_its_file_or_folder() {
        check("/models/qwen3-0.6b", Some("qwen3-0.6b"));
        check("/models/Qwen3-8B-Q4_K_M.gguf", Some("Qwen3-8B-Q4_K_M"));
        check("/models/mô-hình", None);
        check("/", None);
    }

    #[test]
    fn a_snapshot_of_the_cache_is_named_after_its_repository() {
        let cache = tempfile::tempdir().unwrap();
        let snapshot = cache.path().join("models--Qwen--Qwen3-0.6B/snapshots/c1899de2");
        std::fs::create_dir_all(&snapshot).unwrap();
        check(snapshot.to_str().unwrap(), Some("Qwen3-0.6B"));
    }
}
