use std::path::Path;

use hub_base::{ModelId, ProgressSink};

use crate::{Error, Hub, Installed, PullRequest, Result, config::HubConfig};

/// Stands where a build with the feature `fetch` has what fetches models.
#[derive(Clone, Debug)]
pub(crate) struct Puller;

impl Puller {
    pub(crate) fn new(_config: &HubConfig, _models: &Path, _memory_bytes: u64) -> Self {
        Self
    }

    pub(crate) fn remove(&self, _path: &Path) -> Result<u64> {
        Ok(0)
    }

    pub(super) fn check(_source: &str, _sha256: Option<String>) -> Result<()> {
        Err(Error::NotBuilt { feature: "fetch" })
    }

    pub(crate) async fn import(
        &self,
        _hub: &Hub,
        _source: &str,
        _name: Option<ModelId>,
        _progress: ProgressSink,
    ) -> Result<Installed> {
        Err(Error::NotBuilt { feature: "fetch" })
    }

    pub(crate) async fn pull(&self, _hub: &Hub, _request: PullRequest) -> Result<Installed> {
        Err(Error::NotBuilt { feature: "fetch" })
    }
}
