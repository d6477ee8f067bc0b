use std::{fmt, path::PathBuf, sync::Arc};

use hub_base::CancelToken;

use crate::{
    Digest, FetchOptions, Result, Source,
    blob::{self, Blob, Task},
    event::Sink,
    huggingface, ollama,
    web::Web,
};

/// Asks registries what there is, and fetches it. Clones share one pool of connections.
#[derive(Clone, Debug)]
pub struct Fetcher {
    pub(crate) options: Arc<FetchOptions>,
    pub(crate) web: Web,
}

/// What a pull will bring, and why.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) origin: Origin,
    pub(crate) files: Vec<PlannedFile>,
    pub(crate) reason: String,
    /// What is done once all files are there.
    pub(crate) finish: Finish,
}

/// Where a model came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A repository of Hugging Face.
    HuggingFace {
        /// `ORG/REPO`.
        repo: String,
        /// The commit.
        commit: String,
    },
    /// The Ollama registry.
    Ollama {
        /// `library/llama3.2`.
        name: String,
        /// `latest`.
        tag: String,
    },
    /// An address.
    Address {
        /// The address.
        url: String,
    },
}

/// One file of a plan.
#[derive(Clone)]
#[non_exhaustive]
pub struct PlannedFile {
    /// Its name in the repository.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// What its bytes must hash to.
    pub digest: Option<Digest>,
    /// Whether it is on this machine already, whole.
    pub is_here: bool,
    pub(crate) url: String,
    pub(crate) bearer: Option<String>,
    /// What tells this content from another at the same address.
    pub(crate) identity: String,
    pub(crate) target: PathBuf,
    pub(crate) lock: PathBuf,
}

/// What makes fetched files a model.
#[derive(Clone, Debug)]
pub(crate) enum Finish {
    HuggingFace(huggingface::Snapshot),
    Ollama(ollama::Model),
    Address(PathBuf),
}

/// A model that is on this machine now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fetched {
    /// Its file or folder.
    pub path: PathBuf,
    /// Where it came from.
    pub origin: Origin,
    /// The SHA-256 of each file of its weights that was verified by one: its name, and 64 digits.
    pub digests: Vec<(String, String)>,
    /// What the Ollama registry says of it.
    pub ollama: Option<ollama::Extras>,
}

impl Fetcher {
    /// Makes a fetcher. No connection is opened before one is needed.
    pub fn new(options: FetchOptions) -> Self {
        let web = Web::new(options.is_offline);
        Self { options: Arc::new(options), web }
    }

    /// Returns the options it was made with.
    pub fn options(&self) -> &FetchOptions {
        &self.options
    }

    /// Asks what a source holds, and chooses what to fetch of it.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound), [`Error::Denied`](crate::Error::Denied),
    /// [`Error::NoSuchFile`](crate::Error::NoSuchFile), [`Error::Pickle`](crate::Error::Pickle) and the like, and
    /// [`Error::Offline`](crate::Error::Offline) if connections are not allowed and the model is not here.
    pub fn plan(&self, source: &Source, cancel: &CancelToken) -> Result<Plan> {
        match source {
            Source::HuggingFace { repo, revision, pick } => {
                huggingface::plan(self, repo, revision, pick, cancel)
            }
            Source::Ollama { name, tag } => ollama::plan(self, name, tag, cancel),
            Source::Address { url, digest } => crate::address::plan(self, url, digest.as_ref(), cancel),
        }
    }

    /// Fetches what a plan names and is not here, file by file, each in several parts at once.
    ///
    /// A run that was killed is gone on with; two runs at once do not harm each other, the second waits.
    ///
    /// # Errors
    /// What the network, the servers or the disk failed of; [`Error::Digest`](crate::Error::Digest) for bytes that are
    /// not what was announced. Nothing is visible then that is not whole and verified.
    pub fn fetch(&self, plan: &Plan, sink: Sink<'_>, cancel: &CancelToken) -> Result<Fetched> {
        let task = Task { web: &self.web, connections: self.options.connections, sink, cancel };
        for file in &plan.files {
            let blob = Blob {
                name: &file.name,
                url: &file.url,
                bearer: file.bearer.as_deref(),
                len: file.bytes,
                digest: file.digest.as_ref(),
                identity: &file.identity,
                target: file.target.clone(),
                lock: file.lock.clone(),
            };
            blob::fetch(&blob, task)?;
        }
        let ollama = match &plan.finish {
            Finish::HuggingFace(snapshot) => {
                snapshot.finish(&plan.files)?;
                None
            }
            Finish::Ollama(model) => Some(model.finish()?),
            Finish::Address(_) => None,
        };
        let path = plan.path();
        let weights = plan.files.iter().filter(|file| file.is_weights());
        let digests =
            weights.filter_map(|file| Some((file.name.clone(), file.digest.as_ref()?.sha256_digits()?)));
        let digests = digests.collect();
        Ok(Fetched { path, origin: plan.origin.clone(), digests, ollama })
    }
}

impl Fetcher {
    /// Finds a model that is on this machine, in the cache of Hugging Face or of Ollama, and opens no connection.
    ///
    /// It is used where it lies: nothing is copied or changed.
    ///
    /// # Errors
    /// [`Error::NotHere`](crate::Error::NotHere) with the places that were looked at.
    pub fn find(&self, source: &Source) -> Result<Fetched> {
        match source {
            Source::HuggingFace { repo, revision, pick } => huggingface::find(self, repo, revision, pick),
            Source::Ollama { name, tag } => ollama::find(&self.options, name, tag),
            Source::Address { url, .. } => {
                Err(crate::Error::NotHere { what: url.clone(), places: Vec::new(), there: Vec::new() })
            }
        }
    }
}

impl Plan {
    /// Returns where the model comes from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Returns where the model will lie: its file or folder.
    pub fn path(&self) -> PathBuf {
        match &self.finish {
            Finish::HuggingFace(snapshot) => snapshot.model(),
            Finish::Ollama(model) => model.weights(),
            Finish::Address(path) => path.clone(),
        }
    }

    /// Returns the files.
    pub fn files(&self) -> &[PlannedFile] {
        &self.files
    }

    /// Returns why these files.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Returns the bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Returns the bytes that are still to come.
    pub fn missing_bytes(&self) -> u64 {
        self.files.iter().filter(|file| !file.is_here).map(|file| file.bytes).sum()
    }
}

impl fmt::Debug for PlannedFile {
    /// Leaves the token out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlannedFile")
            .field("name", &self.name)
            .field("bytes", &self.bytes)
            .field("digest", &self.digest)
            .field("is_here", &self.is_here)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl PlannedFile {
    fn is_weights(&self) -> bool {
        self.name.ends_with(".gguf") || self.name.ends_with(".safetensors") || self.name == ollama::WEIGHTS
    }
}
