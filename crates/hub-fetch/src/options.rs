use std::{fmt, path::PathBuf};

/// Where models come from, where they are put, and how hard the network is used.
#[derive(Clone)]
#[non_exhaustive]
pub struct FetchOptions {
    /// Directory for what comes from the Ollama registry and from plain addresses.
    pub models: PathBuf,
    /// Directory of the Hugging Face cache, in the layout that its Python library shares: `HF_HOME/hub`.
    pub hf_cache: PathBuf,
    /// Address of the Hugging Face Hub, or of a mirror of it.
    pub hf_endpoint: String,
    /// Token for gated repositories. It is sent to the endpoint and to nobody else.
    pub hf_token: Option<String>,
    /// Address of the Ollama registry.
    pub ollama_registry: String,
    /// Directory where Ollama itself keeps its models, which are found there and never changed.
    pub ollama_models: Option<PathBuf>,
    /// Opens no connection: what is not here yet is refused by name.
    pub is_offline: bool,
    /// How many connections fetch parts of one file at once.
    pub connections: usize,
    /// Memory that a model may take, in bytes; decides which kind of weights is taken where none is named.
    pub memory_bytes: Option<u64>,
}

impl fmt::Debug for FetchOptions {
    /// Leaves the token out: what is printed for debugging is kept and shown around.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchOptions")
            .field("models", &self.models)
            .field("hf_cache", &self.hf_cache)
            .field("hf_endpoint", &self.hf_endpoint)
            .field("ollama_registry", &self.ollama_registry)
            .field("is_offline", &self.is_offline)
            .finish_non_exhaustive()
    }
}

impl FetchOptions {
    /// Puts models into `models`, the Hugging Face cache inside it, and fetches from the public registries.
    pub fn new(models: impl Into<PathBuf>) -> Self {
        let models = models.into();
        Self {
            hf_cache: models.join("huggingface"),
            models,
            hf_endpoint: "https://huggingface.co".to_owned(),
            hf_token: None,
            ollama_registry: "https://registry.ollama.ai".to_owned(),
            ollama_models: None,
            is_offline: false,
            connections: 4,
            memory_bytes: None,
        }
    }
}
