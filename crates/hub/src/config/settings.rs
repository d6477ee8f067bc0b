/// A setting that `hub.toml` and `HUB_*` variables know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Where it stands: `server.port`.
    pub key: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
}

/// Every setting, in the order it is shown. `[aliases]` is a table of names and has no line here.
pub static SETTINGS: &[Setting] = &[
    Setting { key: "server.host", about: "address to listen on" },
    Setting { key: "server.port", about: "port to listen on; 0 takes a free one" },
    Setting { key: "server.origins", about: "origins of pages that may call from a browser" },
    Setting { key: "memory.budget", about: "memory for models: a share such as 80% or a size such as 6GiB" },
    Setting { key: "store.database_url", about: "where rows are kept: sqlite:PATH" },
    Setting { key: "store.readers", about: "database reads at once" },
    Setting {
        key: "store.busy_timeout_ms",
        about: "how long a statement waits while another process writes",
    },
    Setting { key: "store.usage_queue", about: "usage rows that may wait to be written" },
    Setting { key: "auth.local", about: "callers on this machine: allow, or require a key" },
    Setting { key: "compute.device", about: "auto, cpu, cuda:N or metal" },
    Setting { key: "compute.executor", about: "auto, cpu or candle" },
    Setting { key: "compute.cache", about: "what models have read is kept as f16, f32 or q8" },
    Setting { key: "compute.encoders", about: "models that embed and rerank are kept as stored or as q8" },
    Setting {
        key: "compute.weights",
        about: "plain weights of language models are kept as stored, or rounded while loading: q8_0, q6_k, q5_k_m, q4_k_m, q4_0",
    },
    Setting { key: "compute.instructions", about: "auto, portable, avx2, avx-vnni, avx512 or amx" },
    Setting { key: "compute.threads", about: "processor threads that compute" },
    Setting { key: "fetch.offline", about: "opens no outgoing connection (HUB_OFFLINE)" },
    Setting { key: "fetch.hf_home", about: "directory of Hugging Face's cache (HF_HOME)" },
    Setting { key: "fetch.hf_token", about: "token for gated repositories (HF_TOKEN)" },
    Setting { key: "fetch.hf_endpoint", about: "the Hugging Face Hub or a mirror (HF_ENDPOINT)" },
    Setting { key: "fetch.ollama_registry", about: "the Ollama registry (HUB_OLLAMA_REGISTRY)" },
    Setting { key: "fetch.ollama_models", about: "directory of Ollama's models (OLLAMA_MODELS)" },
    Setting { key: "fetch.connections", about: "connections that fetch parts of one file at once" },
    Setting { key: "log.format", about: "text, or json for programs" },
    Setting { key: "models.context_tokens", about: "longest sequence to serve, in tokens" },
    Setting { key: "models.max_sequences", about: "sequences that share one step at most" },
    Setting { key: "models.queue", about: "requests that may wait in front of a model" },
    Setting { key: "models.prefill_tokens", about: "prompt tokens that one step computes at most" },
    Setting {
        key: "models.packed_cache",
        about: "room on disk for packed weights, so that loads skip packing: 20GiB",
    },
    Setting { key: "models.keep_alive", about: "how long an idle model stays: 30m, or forever" },
    Setting { key: "models.stalled_reader_s", about: "seconds until a stream that nobody reads is ended" },
];

/// The table whose keys are names of the user's own.
pub(crate) const ALIASES: &str = "aliases";

/// Variables that mean the same to other programs, or have a name that outside checks hold on to.
pub(crate) const WELL_KNOWN: &[(&str, &str)] = &[
    ("HUB_OFFLINE", "fetch.offline"),
    ("HUB_OLLAMA_REGISTRY", "fetch.ollama_registry"),
    ("OLLAMA_MODELS", "fetch.ollama_models"),
    ("HF_HOME", "fetch.hf_home"),
    ("HF_TOKEN", "fetch.hf_token"),
    ("HF_ENDPOINT", "fetch.hf_endpoint"),
];

/// Settings whose values nobody is shown.
pub(crate) const SECRET: &[&str] = &["fetch.hf_token"];

/// Settings that have a name already and no effect yet. They are refused, so that nobody relies on them.
pub(crate) const NOT_YET: &[&str] = &["store.redis_url", "store.files_url"];

/// Tells whether `section` begins the key of a setting.
pub(crate) fn is_section(section: &str) -> bool {
    let in_section = |key: &str| key.split_once('.').is_some_and(|(first, _)| first == section);
    section == ALIASES || SETTINGS.iter().any(|setting| in_section(setting.key))
}

/// Tells whether `key` is a setting.
pub(crate) fn is_setting(key: &str) -> bool {
    let names_alias =
        key.split_once('.').is_some_and(|(section, name)| section == ALIASES && !name.is_empty());
    names_alias || SETTINGS.iter().any(|setting| setting.key == key)
}
