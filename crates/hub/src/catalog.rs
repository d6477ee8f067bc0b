//! Which models there are: the one inside the program, and those that were imported.

use std::path::{Path, PathBuf};

use hub_base::{ModelId, Task};
use hub_models::{ModelInfo, Source};
use hub_router::{AUTO, Candidate, Request, Target};
use hub_store::ModelRow;
use serde::Serialize;

use crate::{Error, Hub, Result, caller::now_ms, open::blocking, registry::explained};

/// The name of the model inside the program.
const GUIDE: &str = "hub-guide";

/// How the store writes that a model was imported in place.
const IMPORT: &str = "import";

/// A model that can be asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Installed {
    /// Its name.
    pub name: ModelId,
    /// What it can be asked to do.
    pub task: Task,
    /// Where it came from.
    pub origin: ModelOrigin,
    /// Its file or folder; the built-in model has none.
    pub path: Option<PathBuf>,
    /// The family that reads it.
    pub family: String,
    /// How its weights are stored: `gguf`.
    pub format: String,
    /// The kind most of its tensors have: `Q8_0`.
    pub weights: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes of all its tensors.
    pub bytes: u64,
    /// The longest sequence it was made for, in tokens.
    pub context_tokens: u32,
    /// When it came here, in Unix milliseconds; 0 for the built-in model.
    pub created_at_ms: i64,
    /// Whether it is in memory now.
    pub is_loaded: bool,
}

/// Where a model came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ModelOrigin {
    /// It is part of the program.
    Builtin,
    /// It lies where its owner put it, and is used in place.
    Imported,
}

/// Everything that a model's files say of it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ModelDetails {
    /// How it is listed.
    #[serde(flatten)]
    pub installed: Installed,
    /// What its files say now.
    pub info: ModelInfo,
}

/// A model that was forgotten.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Removed {
    /// How it was listed.
    #[serde(flatten)]
    pub model: Installed,
    /// Bytes of the files that were deleted: those that the hub pulled for it alone.
    pub freed_bytes: u64,
}

/// A candidate of the router, and the model it names.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) candidate: Candidate,
    pub(crate) installed: Installed,
}

impl Installed {
    /// Returns where its files are.
    pub fn source(&self) -> Source {
        match &self.path {
            Some(path) => Source::Path(path.clone()),
            None => Source::Guide,
        }
    }

    /// Describes the model inside the program.
    pub(crate) fn builtin(info: &ModelInfo) -> Result<Self> {
        let path = PathBuf::from(GUIDE);
        Ok(Self {
            name: ModelId::new(GUIDE).map_err(|source| Error::NoName { path, source })?,
            task: info.task,
            origin: ModelOrigin::Builtin,
            path: None,
            family: info.family.to_owned(),
            format: info.format.to_owned(),
            weights: main_kind(info),
            parameters: info.parameters,
            bytes: info.file_bytes,
            context_tokens: saturate(info.context_tokens),
            created_at_ms: 0,
            is_loaded: false,
        })
    }

    /// Reads a row; `None` if a newer version of the hub wrote it for a task this one does not know.
    fn from_row(row: ModelRow) -> Option<Self> {
        let task =
            [Task::Chat, Task::Embed, Task::Rerank].into_iter().find(|task| task.as_str() == row.task)?;
        Some(Self {
            name: row.name,
            task,
            origin: ModelOrigin::Imported,
            path: Some(row.path.into()),
            family: row.family,
            format: row.format,
            weights: row.weights,
            parameters: row.parameters,
            bytes: row.bytes,
            context_tokens: row.context_tokens,
            created_at_ms: row.created_at_ms,
            is_loaded: false,
        })
    }

    fn target(&self) -> Target {
        Target {
            name: self.name.clone(),
            tasks: vec![self.task],
            context_tokens: self.context_tokens,
            bytes: self.bytes,
            is_loaded: self.is_loaded,
            is_builtin: self.origin == ModelOrigin::Builtin,
        }
    }
}

/// Lengths people think in, in tokens.
const LENGTHS: [usize; 4] = [2_048, 8_192, 32_768, 131_072];

impl ModelDetails {
    /// Returns how many bytes the model takes with one sequence of so many tokens, for a few lengths up to its
    /// context.
    pub fn memory(&self) -> Vec<(usize, u64)> {
        let context = self.info.context_tokens;
        let lengths = LENGTHS.into_iter().filter(|length| *length < context).chain([context]);
        lengths
            .map(|tokens| (tokens, self.info.file_bytes.saturating_add(self.info.state_bytes(tokens))))
            .collect()
    }
}

impl Hub {
    /// Returns every model that can be asked, sorted by name.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn models(&self) -> Result<Vec<Installed>> {
        let rows = self.store().catalog().list().await?;
        let mut models: Vec<_> = rows.into_iter().filter_map(Installed::from_row).collect();
        models.push(self.builtin().clone());
        models.sort_by(|a, b| a.name.cmp(&b.name));
        // What another process removed is no model any more.
        self.registry().forget_all_but(&models);
        for model in &mut models {
            model.is_loaded = self.registry().is_loaded(&model.name);
        }
        Ok(models)
    }

    /// Finds a model by its name.
    ///
    /// # Errors
    /// [`Error::NoSuchModel`], which lists what is installed.
    pub async fn model(&self, name: &str) -> Result<Installed> {
        let mut models = self.models().await?;
        match models.iter().position(|model| model.name.as_str() == name) {
            Some(at) => Ok(models.swap_remove(at)),
            None => {
                let installed = models.into_iter().map(|model| model.name.to_string()).collect();
                Err(Error::NoSuchModel { name: name.chars().take(ModelId::MAX_LEN).collect(), installed })
            }
        }
    }

    /// Finds a model by its name, or by an alias that leads to it.
    async fn model_behind(&self, name: &str) -> Result<Installed> {
        let aliases = self.aliases().await?;
        let models = aliases.iter().find(|alias| alias.name == name).map(|alias| alias.models.as_slice());
        self.model(models.and_then(<[String]>::first).map_or(name, String::as_str)).await
    }

    /// Reads what a model's files say, without loading it. An alias leads to the first of its models.
    ///
    /// # Errors
    /// [`Error::NoSuchModel`], or [`Error::Models`] if its files are gone or damaged.
    pub async fn details(&self, name: &str) -> Result<ModelDetails> {
        let installed = self.model_behind(name).await?;
        let source = installed.source();
        let info = blocking(move || hub_models::inspect(&source)).await?;
        let info = info.map_err(|error| explained(&installed, error.into()))?;
        Ok(ModelDetails { installed, info })
    }

    /// Reads a model's chat template, as its authors wrote it; `None` if it has none.
    ///
    /// # Errors
    /// As [`Hub::details`].
    pub async fn chat_template(&self, name: &str) -> Result<Option<String>> {
        let installed = self.model_behind(name).await?;
        let source = installed.source();
        let template = blocking(move || hub_models::chat_template(&source)).await?;
        template.map_err(|error| explained(&installed, error.into()))
    }

    /// Makes a Hugging Face folder or a GGUF file usable where it lies.
    ///
    /// It is not copied. Everything but its weights is read, so that what would fail at its first use fails now. Without `name` it is called after its file or folder.
    ///
    /// # Errors
    /// [`Error::NoModelAt`] if nothing is there, [`Error::Models`] if it is no model this hub can run,
    /// [`Error::NoName`] or [`Error::ReservedName`] for a name it cannot have, [`Error::Store`] for one that is taken.
    pub async fn import(&self, path: &Path, name: Option<ModelId>) -> Result<Installed> {
        let no_model = |source| Error::NoModelAt { path: path.to_owned(), source };
        let given = path.to_owned();
        // A file of Hugging Face's cache is a link to one without a name, so links stay what they are.
        let there = move || std::path::absolute(given).and_then(|path| path.metadata().map(|_| path));
        let path = blocking(there).await?.map_err(no_model)?;
        let name = match name {
            Some(name) => name,
            None => name_of(&path)?,
        };
        self.install(&path, name, IMPORT).await
    }

    /// Makes the file or folder at `path` usable under a name; `came` says how it came here.
    ///
    /// # Errors
    /// As [`Hub::import`].
    pub(crate) async fn install(&self, path: &Path, name: ModelId, came: &str) -> Result<Installed> {
        if name.as_str() == GUIDE || name.as_str() == AUTO {
            return Err(Error::ReservedName { name });
        }
        let text = path.to_str().ok_or_else(|| Error::PathNotText { path: path.to_owned() })?.to_owned();
        if came != IMPORT
            && let Ok(there) = self.model(name.as_str()).await
            && there.path.as_deref() == Some(path)
        {
            return Ok(there);
        }
        let source = Source::Path(path.to_owned());
        let info = blocking(move || hub_models::verify(&source)).await??;
        let row = ModelRow {
            name,
            source: came.to_owned(),
            path: text,
            task: info.task.as_str().to_owned(),
            format: info.format.to_owned(),
            family: info.family.to_owned(),
            weights: main_kind(&info),
            parameters: info.parameters,
            bytes: info.file_bytes,
            context_tokens: saturate(info.context_tokens),
            details: serde_json::json!({ "hidden_size": info.hidden_size, "layers": info.layers }),
            created_at_ms: now_ms(),
        };
        self.store().catalog().insert(&row).await?;
        let name = row.name.clone();
        Installed::from_row(row)
            .ok_or_else(|| Error::NoSuchModel { name: name.to_string(), installed: Vec::new() })
    }

    /// Forgets a model and unloads it. Files that the hub pulled into its own directory for it are deleted; all others
    /// belong to whoever put them there and stay.
    ///
    /// # Errors
    /// [`Error::NoSuchModel`], [`Error::Builtin`], or [`Error::Fetch`](crate::Error::Fetch) for files that cannot be
    /// deleted.
    pub async fn remove(&self, name: &str) -> Result<Removed> {
        let installed = self.model(name).await?;
        if installed.origin == ModelOrigin::Builtin {
            return Err(Error::Builtin { name: installed.name });
        }
        self.store().catalog().remove(&installed.name).await?;
        let (registry, name) = (self.registry().clone(), installed.name.clone());
        blocking(move || registry.forget(&name)).await?;
        let mut freed_bytes = 0;
        if let Some(path) = installed.path.clone() {
            // The same files may be there under another name.
            let is_shared = self.models().await?.iter().any(|model| model.path.as_ref() == Some(&path));
            let puller = self.puller().clone();
            if !is_shared {
                freed_bytes = blocking(move || puller.remove(&path)).await??;
            }
        }
        Ok(Removed { model: installed, freed_bytes })
    }

    /// Asks the router, and finds the models it names.
    pub(crate) async fn plan(&self, request: &Request<'_>) -> Result<Vec<Planned>> {
        let models = self.models().await?;
        let targets: Vec<_> = models.iter().map(Installed::target).collect();
        let decision = self.router().decide(request, &targets)?;
        let find = |candidate: Candidate| {
            let installed = models.iter().find(|model| model.name == candidate.model)?.clone();
            Some(Planned { candidate, installed })
        };
        Ok(decision.candidates.into_iter().filter_map(find).collect())
    }

    /// Asks the router for its first choice.
    pub(crate) async fn plan_one(&self, request: &Request<'_>) -> Result<Planned> {
        let mut plan = self.plan(request).await?;
        // A decision is never empty; the error is for a router that breaks its word.
        if plan.is_empty() { Err(Error::Stopped) } else { Ok(plan.swap_remove(0)) }
    }
}

/// Names a model after its file or folder; one in the Hugging Face cache after its repository.
fn name_of(path: &Path) -> Result<ModelId> {
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
        _ => stem,
    };
    ModelId::new(name).map_err(|source| Error::NoName { path: path.to_owned(), source })
}

/// Returns the kind that most tensors have; of two that tie, the one later in the alphabet.
fn main_kind(info: &ModelInfo) -> String {
    let most = info.weight_kinds.iter().max_by_key(|(_, tensors)| **tensors);
    most.map(|(kind, _)| (*kind).to_owned()).unwrap_or_default()
}

fn saturate(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
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
