use std::path::Path;

use hub_base::{ModelId, Progress, ProgressSink, whole_of_shard};
use hub_fetch::{Digest, Event, FetchOptions, Fetched, Fetcher, Origin, Plan, Source, Stage};

use super::{PullEvent, PullSink, PullStage, ollama};
use crate::{
    Error, Hub, Installed, PullRequest, Result,
    catalog::Arrival,
    config::HubConfig,
    open::{CancelOnDrop, blocking},
};

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
        options.ollama_models.clone_from(&fetch.ollama_models);
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

    /// Checks what names a source.
    pub(super) fn check(source: &str, sha256: Option<String>) -> Result<()> {
        parse(source, sha256).map(drop)
    }

    pub(crate) async fn pull(&self, hub: &Hub, request: PullRequest) -> Result<Installed> {
        let PullRequest { source, sha256, name, events, cancel } = request;
        let source = parse(&source, sha256)?;
        // A caller that leaves drops this future, and with it the guard: what arrived is kept for the next one.
        let guard = CancelOnDrop::of(cancel);
        let (fetcher, cancel) = (self.0.clone(), guard.token());
        let plan = blocking(move || fetcher.plan(&source, &cancel)).await?.map_err(failed)?;
        let name = match name {
            Some(name) => name,
            None => name_of(plan.origin(), &plan.path())?,
        };
        let came = source_of(plan.origin());
        // Before gigabytes are fetched for nothing.
        hub.claim(&name, &came).await?;
        events.send(planned(&plan));
        let (fetcher, told, cancel) = (self.0.clone(), events.clone(), guard.token());
        let fetched = blocking(move || fetcher.fetch(&plan, &|event| forward(&told, event), &cancel));
        let fetched = fetched.await?.map_err(failed)?;
        let file = fetched.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let progress = ProgressSink::new(move |Progress { done, total, .. }| {
            let (file, stage) = (file.clone(), PullStage::Verifying);
            events.send(PullEvent::File { file, stage, done, total, bytes_per_s: 0.0 });
        });
        let digests = fetched.digests.clone();
        let arrival =
            Arrival { progress, digests, is_fetched: true, cancel: guard.token(), ..Arrival::by(came) };
        install(hub, fetched, name, arrival).await
    }

    /// Installs a model that another program has fetched, where it lies.
    pub(crate) async fn import(
        &self,
        hub: &Hub,
        source: &str,
        name: Option<ModelId>,
        progress: ProgressSink,
    ) -> Result<Installed> {
        let source = parse(source, None)?;
        let fetcher = self.0.clone();
        let fetched = blocking(move || fetcher.find(&source)).await?;
        let fetched = fetched.map_err(failed)?;
        let name = match name {
            Some(name) => name,
            None => name_of(&fetched.origin, &fetched.path)?,
        };
        let arrival = Arrival { progress, ..Arrival::by(source_of(&fetched.origin)) };
        install(hub, fetched, name, arrival).await
    }
}

/// Installs a model that is on this machine, with what came beside its weights.
async fn install(hub: &Hub, fetched: Fetched, name: ModelId, mut arrival: Arrival) -> Result<Installed> {
    if let Some(extras) = &fetched.ollama {
        ollama::add(extras, &mut arrival);
    }
    hub.install(&fetched.path, name, arrival).await
}

fn failed(error: hub_fetch::Error) -> Error {
    Error::Fetch(Box::new(error))
}

fn parse(source: &str, sha256: Option<String>) -> Result<Source> {
    let mut source: Source = source.parse().map_err(|error| failed(hub_fetch::Error::from(error)))?;
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
        Origin::Address { url } => public(url),
        // A kind this crate does not know yet.
        _ => "pull".to_owned(),
    }
}

/// Returns an address without what may be secret in it: names and passwords, and what is asked behind the path.
fn public(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = plain.split_once("://") else { return plain.to_owned() };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = host.rsplit('@').next().unwrap_or(host);
    format!("{scheme}://{host}/{path}")
}

/// Names a model after its source: `Qwen3-0.6B-Q4_K_M` after a GGUF file, `Qwen3-0.6B` after a repository,
/// `llama3.2:1b` after a tag.
fn name_of(origin: &Origin, path: &Path) -> Result<ModelId> {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let is_file = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
    let text = match origin {
        Origin::HuggingFace { repo, .. } if !is_file => repo.rsplit('/').next().unwrap_or(repo).to_owned(),
        Origin::Ollama { name, tag } if tag == "latest" => short(name).to_owned(),
        Origin::Ollama { name, tag } => format!("{}:{tag}", short(name)),
        _ => whole_of_shard(&stem).unwrap_or(&stem).to_owned(),
    };
    ModelId::new(&text).map_err(|source| Error::NoName { path: path.to_owned(), source })
}

/// Returns a name of the Ollama registry as people write it.
fn short(name: &str) -> &str {
    name.strip_prefix("library/").unwrap_or(name)
}
