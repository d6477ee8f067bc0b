//! Which models there are: the one inside the program, and those that were imported or pulled.

mod change;
mod files;
mod packed;
mod record;
mod speed;

use std::path::PathBuf;

use hub_base::{ModelId, Task};
use hub_models::{ModelInfo, Preset, Source};
use hub_router::{Candidate, Request, Target};
use serde::Serialize;

use crate::{Error, Hub, Result, open::blocking, registry::explained};

pub use change::Removed;
pub(crate) use change::{Arrival, name_of};
pub use files::ModelFile;
pub(crate) use packed::PackedCache;
pub use speed::Speed;

/// The name of the model inside the program.
const GUIDE: &str = "hub-guide";

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
    /// Where it was had from: `import`, `hf:ORG/REPO@COMMIT`, `ollama:NAME:TAG`, an address.
    pub source: String,
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
    /// The files of its weights.
    pub files: Vec<ModelFile>,
    /// The space that all its files take, in bytes.
    pub disk_bytes: u64,
    /// The space that its packed weights take besides, in bytes; looked at where all models are listed.
    #[serde(skip_serializing_if = "is_zero")]
    pub packed_bytes: u64,
    /// The languages it was made for, as its authors say: `["en", "vi"]`.
    pub languages: Vec<String>,
    /// What it is good at, as its authors say: `code`, `math`.
    pub specialities: Vec<String>,
    /// What it can be asked for: `chat`, `completion`, `reasoning`, `embedding`, `reranking`.
    pub capabilities: Vec<String>,
    /// Its licence, as its authors name it.
    pub license: Option<String>,
    /// What came with it for its use: instructions, sampling, texts that end an answer.
    #[serde(skip_serializing_if = "Preset::is_empty")]
    pub preset: Preset,
    /// What its owner should know of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Adapters that belong to it. A model with any is not loaded yet: without them it would be another one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<String>,
}

/// Where a model came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ModelOrigin {
    /// It is part of the program.
    Builtin,
    /// It lies where its owner put it, and is used in place.
    Imported,
    /// The hub fetched it.
    Pulled,
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
    /// What it takes with one sequence of a few lengths.
    pub memory: Vec<MemoryAt>,
    /// How fast it was here, if that was measured and kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
}

/// A candidate of the router, and the model it names.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) candidate: Candidate,
    pub(crate) installed: Installed,
}

fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

impl Installed {
    /// Returns what it does, in a word: its task, or `completion` for a model that continues texts and answers no
    /// conversation.
    pub fn purpose(&self) -> &str {
        // Rows of older versions say no capabilities.
        let is_chat = self.capabilities.is_empty() || self.capabilities.iter().any(|word| word == "chat");
        if self.task == Task::Chat && !is_chat { "completion" } else { self.task.as_str() }
    }

    /// Returns what it can do: `chat`, `continue texts`, `embed`, `rerank`.
    pub fn verb(&self) -> &str {
        match self.purpose() {
            "completion" => "continue texts",
            task => task,
        }
    }

    /// Returns where its files are.
    pub fn files_source(&self) -> Source {
        match &self.path {
            Some(path) => Source::Path(path.clone()),
            None => Source::Guide,
        }
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
const LENGTHS: [usize; 4] = [4_096, 8_192, 32_768, 131_072];

/// What a model takes with one sequence of some length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MemoryAt {
    /// The length of the sequence, in tokens.
    pub tokens: usize,
    /// Everything that is taken then, beside the program itself.
    pub bytes: u64,
}

impl MemoryAt {
    /// Returns what a model takes for a few lengths up to its context.
    fn all(info: &ModelInfo) -> Vec<Self> {
        let context = info.context_tokens;
        let lengths = LENGTHS.into_iter().filter(|length| *length < context).chain([context]);
        lengths.map(|tokens| Self { tokens, bytes: info.memory_bytes(tokens) }).collect()
    }
}

impl Hub {
    /// Returns every model that can be asked, sorted by name.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn models(&self) -> Result<Vec<Installed>> {
        let mut models = self.installed().await?;
        let packed = self.packed().clone();
        blocking(move || {
            packed.measure(&mut models);
            models
        })
        .await
    }

    /// Returns the same, without a look at the disk.
    pub(crate) async fn installed(&self) -> Result<Vec<Installed>> {
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
        let mut models = self.installed().await?;
        match models.iter().position(|model| model.name.as_str() == name) {
            Some(at) => Ok(models.swap_remove(at)),
            None => {
                let installed = models.into_iter().map(|model| model.name.to_string()).collect();
                Err(Error::NoSuchModel { name: name.chars().take(ModelId::MAX_LEN).collect(), installed })
            }
        }
    }

    /// Finds a model by its name, or by an alias that leads to it.
    pub(crate) async fn model_behind(&self, name: &str) -> Result<Installed> {
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
        let source = installed.files_source();
        let executor = self.config().compute.executor_options().for_device(self.registry().device());
        let info = blocking(move || hub_models::inspect_for(&source, executor)).await?;
        let info = info.map_err(|error| explained(&installed, error.into()))?;
        let speed = self.speed(&installed.name).await?;
        let memory = MemoryAt::all(&info);
        Ok(ModelDetails { installed, info, memory, speed })
    }

    /// Reads a model's chat template: as its authors wrote it, else the one it was installed with; `None` if it has
    /// none.
    ///
    /// # Errors
    /// As [`Hub::details`].
    pub async fn chat_template(&self, name: &str) -> Result<Option<String>> {
        let installed = self.model_behind(name).await?;
        let source = installed.files_source();
        let template = blocking(move || hub_models::chat_template(&source)).await?;
        let template = template.map_err(|error| explained(&installed, error.into()))?;
        Ok(template.or(installed.preset.chat_template))
    }

    /// Asks the router, and finds the models it names.
    pub(crate) async fn plan(&self, request: &Request<'_>) -> Result<Vec<Planned>> {
        let models = self.installed().await?;
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
