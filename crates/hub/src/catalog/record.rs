//! A model as the store keeps it.

use hub_base::Task;
use hub_models::{ModelInfo, Preset};
use hub_store::ModelRow;
use serde::{Deserialize, Serialize};

use super::{GUIDE, Installed, ModelFile, ModelOrigin};
use crate::{Error, Result};

/// How the store writes that a model was imported in place.
pub(super) const IMPORT: &str = "import";

/// What the store keeps beside its columns. Rows of older versions lack some of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Details {
    pub(super) hidden_size: usize,
    pub(super) layers: usize,
    pub(super) files: Vec<ModelFile>,
    pub(super) disk_bytes: u64,
    pub(super) languages: Vec<String>,
    pub(super) specialities: Vec<String>,
    pub(super) capabilities: Vec<String>,
    pub(super) license: Option<String>,
    pub(super) preset: Preset,
    pub(super) notes: Vec<String>,
    pub(super) adapters: Vec<String>,
    /// Whether the hub fetched it.
    pub(super) is_fetched: bool,
}

impl Details {
    pub(super) fn of(info: &ModelInfo) -> Self {
        let owned = |words: &[&'static str]| words.iter().map(|word| (*word).to_owned()).collect();
        Self {
            hidden_size: info.hidden_size,
            layers: info.layers,
            languages: info.card.languages.clone(),
            specialities: owned(&info.specialities),
            capabilities: owned(&info.capabilities),
            license: info.card.license.clone(),
            ..Self::default()
        }
    }
}

impl Installed {
    /// Describes the model inside the program.
    pub(crate) fn builtin(info: &ModelInfo) -> Result<Self> {
        let path = std::path::PathBuf::from(GUIDE);
        let details = Details::of(info);
        Ok(Self {
            name: hub_base::ModelId::new(GUIDE).map_err(|source| Error::NoName { path, source })?,
            task: info.task,
            origin: ModelOrigin::Builtin,
            source: "built in".to_owned(),
            path: None,
            family: info.family.to_owned(),
            format: info.format.to_owned(),
            weights: main_kind(info),
            parameters: info.parameters,
            bytes: info.file_bytes,
            context_tokens: saturate(info.context_tokens),
            created_at_ms: 0,
            is_loaded: false,
            files: Vec::new(),
            disk_bytes: 0,
            packed_bytes: 0,
            languages: details.languages,
            specialities: details.specialities,
            capabilities: details.capabilities,
            license: details.license,
            preset: Preset::default(),
            notes: Vec::new(),
            adapters: Vec::new(),
        })
    }

    /// Reads a row; `None` if a newer version of the hub wrote it for a task this one does not know.
    pub(super) fn from_row(row: ModelRow) -> Option<Self> {
        let task =
            [Task::Chat, Task::Embed, Task::Rerank].into_iter().find(|task| task.as_str() == row.task)?;
        let details: Details = serde_json::from_value(row.details).unwrap_or_default();
        let origin = if details.is_fetched { ModelOrigin::Pulled } else { ModelOrigin::Imported };
        Some(Self {
            name: row.name,
            task,
            origin,
            source: row.source,
            path: Some(row.path.into()),
            family: row.family,
            format: row.format,
            weights: row.weights,
            parameters: row.parameters,
            bytes: row.bytes,
            context_tokens: row.context_tokens,
            created_at_ms: row.created_at_ms,
            is_loaded: false,
            files: details.files,
            disk_bytes: details.disk_bytes,
            packed_bytes: 0,
            languages: details.languages,
            specialities: details.specialities,
            capabilities: details.capabilities,
            license: details.license,
            preset: details.preset,
            notes: details.notes,
            adapters: details.adapters,
        })
    }
}

/// Returns what the file calls its weights, else the kind that most tensors have; of two that tie, the one later in the
/// alphabet.
pub(super) fn main_kind(info: &ModelInfo) -> String {
    if let Some(mix) = info.mix {
        return mix.to_owned();
    }
    let most = info.weight_kinds.iter().max_by_key(|(_, tensors)| **tensors);
    most.map(|(kind, _)| (*kind).to_owned()).unwrap_or_default()
}

pub(super) fn saturate(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}
