use std::path::Path;

use hub_base::{CancelToken, ModelId};
use hub_fetch::{Digest, Event, FetchOptions, Fetched, Fetcher, Origin, Plan, Source, Stage};

use super::{PullEvent, PullSink, PullStage};
use crate::{Error, Hub, Installed, PullRequest, Result, config::HubConfig, open::blocking};

/// Fetches models as the settings say.
#[derive(Clone, Debug)]
pub(crate) struct Puller(Fetcher);

impl Puller {
    /// Puts what is fetched into `models`, unless the Hugging Face cache is elsewhere; prefers what `memory_bytes`
    /// hold.
    pub(crate) fn new(config: &HubConfig, models: &Path, memory_bytes: u64) -> Self {
        let fetch = &config.fetch;
        let mut options = FetchOptions::new(models);
        if let Some(home) = &fetch.hf_home {
            options.hf_cache = home.join("hub");
        }
        options.hf_endpoint.clone_from(&fetch.hf_endpoint);
        options.hf_token.clone_from(&fetch.hf_token);
        options.ollama_registry.clone_from(&fetch.ollama_registry);
        options.is_offline = fetch.offline;
        options.connections = fetch.connections;
        options.memory_bytes = Some(memory_bytes);
        Self(Fetcher::new(options))
    }

    /// Deletes what was pulled into the hub's own directory for a model; see [`hub_fetch::remove_owned`].
    pub(crate) fn remove(&self, path: &Path) -> Result<u64> {
        let models = &self.0.options().models;
        hub_fetch::remove_owned(models, path).map_err(|error| Error::Fetch(Box::new(error)))
    }

    pub(crate) async fn pull(&self, hub: &Hub, request: PullRequest) -> Result<Installed> {
        let PullRequest { source, sha256, name, events, cancel } = request;
        if sha256.is_none() && Path::new(&source).exists() {
            return hub.import(Path::new(&source), name).await;
        }
        let source = parse(&source, sha256)?;
        let fetcher = self.0.clone();
        // A caller that leaves drops this future, and with it the guard: what arrived is kept for the next one.
        let guard = CancelOnDrop::of(cancel);
        let cancel = guard.token();
        let fetched = blocking(move || {
            let plan = fetcher.plan(&source, &cancel)?;
            events.send(planned(&plan));
            fetcher.fetch(&plan, &|event| forward(&events, event), &cancel)
        });
        let fetched = fetched.await?.map_err(|error| Error::Fetch(Box::new(error)))?;
        // Without it the model would answer, and as another one.
        if fetched.ollama.as_ref().is_some_and(|extras| !extras.adapters.is_empty()) {
            return Err(Error::Adapter { origin: source_of(&fetched.origin) });
        }
        let name = match name {
            Some(name) => name,
            None => name_of(&fetched)?,
        };
        hub.install(&fetched.path, name, &source_of(&fetched.origin)).await
    }
}

fn parse(source: &str, sha256: Option<String>) -> Result<Source> {
    let mut source: Source =
        source.parse().map_err(|error| Error::Fetch(Box::new(hub_fetch::Error::from(error))))?;
    let asked = sha256.map(|text| Digest::sha256(&text).ok_or(Error::NoDigest { text })).transpose()?;
    if let Source::Address { digest, .. } = &mut source {
        *digest = asked;
    }
    Ok(source)
}

fn planned(plan: &Plan) -> PullEvent {
    PullEvent::Plan {
        files: plan.files().iter().map(|file| file.name.clone()).collect(),
        bytes: plan.bytes(),
        missing_bytes: plan.missing_bytes(),
        reason: plan.reason().to_owned(),
    }
}

fn forward(events: &PullSink, event: Event<'_>) {
    let stage = match event.stage {
        Stage::Waiting => PullStage::Waiting,
        Stage::Verifying => PullStage::Verifying,
        Stage::Done => PullStage::Done,
        _ => PullStage::Fetching,
    };
    let Event { file, done, total, bytes_per_s, .. } = event;
    events.send(PullEvent::File { file: file.to_owned(), stage, done, total, bytes_per_s });
}

/// Writes where a model came from, as a pull would name it.
fn source_of(origin: &Origin) -> String {
    match origin {
        Origin::HuggingFace { repo, commit } => format!("hf:{repo}@{commit}"),
        Origin::Ollama { name, tag } => format!("ollama:{}:{tag}", short(name)),
        Origin::Address { url } => url.clone(),
        // A kind this crate does not know yet.
        _ => "pull".to_owned(),
    }
}

/// Names a model after its source: `Qwen3-0.6B-Q4_K_M` after a GGUF file, `Qwen3-0.6B` after a repository,
/// `llama3.2:1b` after a tag.
fn name_of(fetched: &Fetched) -> Result<ModelId> {
    let stem = fetched.path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let text = match &fetched.origin {
        Origin::HuggingFace { repo, .. } if fetched.path.is_dir() => {
            repo.rsplit('/').next().unwrap_or(repo).to_owned()
        }
        Origin::Ollama { name, tag } if tag == "latest" => short(name).to_owned(),
        Origin::Ollama { name, tag } => format!("{}:{tag}", short(name)),
        _ => stem,
    };
    ModelId::new(&text).map_err(|source| Error::NoName { path: fetched.path.clone(), source })
}

/// Returns a name of the Ollama registry as people write it.
fn short(name: &str) -> &str {
    name.strip_prefix("library/").unwrap_or(name)
}

/// Stops work that runs elsewhere once the future that waits for it is dropped.
#[derive(Debug)]
struct CancelOnDrop(CancelToken);

impl CancelOnDrop {
    /// Stops the work that looks at this flag, which others may set too.
    fn of(token: CancelToken) -> Self {
        Self(token)
    }

    /// Returns the flag that the work looks at.
    fn token(&self) -> CancelToken {
        self.0.clone()
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
