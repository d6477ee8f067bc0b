use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

use hub_models::LoadOptions;
use hub_nn::{
    Device, DeviceOptions, Isa,
    executor::{EncoderWeights, ExecutorKind, ExecutorOptions, KvKind},
    weights::Mix,
};
use hub_router::{OneOrMany, RouterOptions};
use hub_store::StoreOptions;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    Home,
    catalog::PackedCache,
    config::{Budget, KeepAlive, PageOrigin, Room},
};

/// The settings of every part, side by side: one field a section of `hub.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HubConfig {
    /// Where the server listens and which pages may call it.
    pub server: ServerOptions,
    /// How much memory models may use together.
    pub memory: MemoryOptions,
    /// Where rows are kept.
    pub store: StoreOptions,
    /// Who needs a key.
    pub auth: AuthOptions,
    /// Where arithmetic runs.
    pub compute: ComputeOptions,
    /// Where models are fetched from.
    pub fetch: FetchSettings,
    /// What a program writes of what happens.
    pub log: LogOptions,
    /// Limits of each loaded model.
    pub models: ModelsOptions,
    /// Other names for models; see [`RouterOptions::aliases`].
    pub aliases: BTreeMap<String, OneOrMany>,
}

/// Where the server listens and which pages may call it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ServerOptions {
    /// The address to listen on; `localhost` is read as 127.0.0.1.
    #[serde(deserialize_with = "address")]
    pub host: IpAddr,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// Origins of pages that may call from a browser, besides any port of this machine: `https://chat.example`.
    pub origins: Vec<PageOrigin>,
}

/// How much memory models may use together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MemoryOptions {
    /// The limit of the account that every model reserves from.
    pub budget: Budget,
}

/// Who needs a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AuthOptions {
    /// What callers on this machine need while the server listens on loopback.
    pub local: LocalAccess,
}

/// What callers on this machine need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalAccess {
    /// Nothing: whoever is at this machine owns the hub.
    #[default]
    Allow,
    /// A key, like everybody else.
    Require,
}

/// Where arithmetic runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ComputeOptions {
    /// The device, as [`Device::open`] names it: `auto`, `cpu`, `cuda:0`, `metal`.
    pub device: String,
    /// What runs models.
    pub executor: ExecutorChoice,
    /// How the executor for processors keeps what models have read.
    pub cache: CacheChoice,
    /// How the executor for processors keeps models that embed and rerank.
    pub encoders: EncodersChoice,
    /// To what the executor for processors rounds plain weights of models of language while it loads them.
    pub weights: WeightsChoice,
    /// Which instructions of the processor the executor for processors uses.
    pub instructions: InstructionsChoice,
    /// How many processor threads compute; one per physical core if `None`. For candle a program must apply it before
    /// its first arithmetic: the library cannot.
    #[serde(deserialize_with = "threads")]
    pub threads: Option<NonZeroUsize>,
}

/// What runs models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutorChoice {
    /// The best one for the device.
    #[default]
    Auto,
    /// The one over candle: the reference.
    Candle,
    /// The one for processors.
    Cpu,
}

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheChoice {
    /// As computed.
    F32,
    /// In half the bytes.
    #[default]
    F16,
    /// In a little over a quarter of them, with a loss.
    Q8,
}

/// How the weights of models that embed and rerank are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncodersChoice {
    /// As the file has them.
    #[default]
    Stored,
    /// In bytes: smaller and faster, with a loss.
    Q8,
}

/// How plain weights of models of language are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are those of the mixes")]
pub enum WeightsChoice {
    /// As the file has them.
    #[default]
    Stored,
    #[serde(rename = "q8_0")]
    Q8_0,
    #[serde(rename = "q6_k")]
    Q6K,
    #[serde(rename = "q5_k_m")]
    Q5KM,
    #[serde(rename = "q4_k_m")]
    Q4KM,
    #[serde(rename = "q4_0")]
    Q4_0,
}

impl WeightsChoice {
    /// Returns the mix that weights are rounded to, if they are.
    pub fn mix(self) -> Option<Mix> {
        match self {
            Self::Stored => None,
            Self::Q8_0 => Some(Mix::Q8_0),
            Self::Q6K => Some(Mix::Q6K),
            Self::Q5KM => Some(Mix::Q5KM),
            Self::Q4KM => Some(Mix::Q4KM),
            Self::Q4_0 => Some(Mix::Q4_0),
        }
    }
}

/// Which instructions are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstructionsChoice {
    /// The best the processor has, of those measured on a processor that has them.
    #[default]
    Auto,
    /// Those every processor has.
    Portable,
    /// AVX2.
    Avx2,
    /// AVX2 with AVX-VNNI.
    #[serde(rename = "avx-vnni")]
    AvxVnni,
    /// AVX-512 with VNNI.
    Avx512,
    /// AVX-512 with AMX.
    Amx,
}

impl ComputeOptions {
    /// Returns how models are run.
    pub fn executor_options(&self) -> ExecutorOptions {
        let kind = match self.executor {
            ExecutorChoice::Auto => ExecutorKind::Auto,
            ExecutorChoice::Candle => ExecutorKind::Candle,
            ExecutorChoice::Cpu => ExecutorKind::Cpu,
        };
        let kv = match self.cache {
            CacheChoice::F32 => KvKind::F32,
            CacheChoice::F16 => KvKind::F16,
            CacheChoice::Q8 => KvKind::Q8,
        };
        let encoder_weights = match self.encoders {
            EncodersChoice::Stored => EncoderWeights::Stored,
            EncodersChoice::Q8 => EncoderWeights::Q8,
        };
        ExecutorOptions::default()
            .kind(kind)
            .kv(kv)
            .encoder_weights(encoder_weights)
            .weights(self.weights.mix())
    }

    /// Opens the device that is asked for, to find out whether it is here.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if it is not, or lacks the instructions that are asked for.
    pub fn check(&self) -> crate::Result<()> {
        Device::open(&self.device, hub_base::Account::unlimited(), self.device_options())?;
        Ok(())
    }

    /// Says which settings change nothing beside others.
    pub fn ignored(&self) -> Vec<String> {
        let defaults = Self::default();
        let settings = [
            ("encoders", self.encoders != defaults.encoders),
            ("weights", self.weights != defaults.weights),
            ("cache", self.cache != defaults.cache),
        ];
        let is_candle = self.executor == ExecutorChoice::Candle;
        let ignored = settings.into_iter().filter(|(_, is_set)| is_candle && *is_set);
        ignored.map(|(name, _)| format!("compute.{name} changes nothing with the executor candle")).collect()
    }

    /// Returns how the device computes.
    pub fn device_options(&self) -> DeviceOptions {
        let isa = match self.instructions {
            InstructionsChoice::Auto => None,
            InstructionsChoice::Portable => Some(Isa::Portable),
            InstructionsChoice::Avx2 => Some(Isa::Avx2),
            InstructionsChoice::AvxVnni => Some(Isa::AvxVnni),
            InstructionsChoice::Avx512 => Some(Isa::Avx512),
            InstructionsChoice::Amx => Some(Isa::Amx),
        };
        let mut options = DeviceOptions::default();
        (options.threads, options.isa) = (self.threads, isa);
        options
    }
}

/// Where models are fetched from.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FetchSettings {
    /// Opens no outgoing connection. Variables say `1`, as they do to other programs.
    #[serde(deserialize_with = "switch")]
    pub offline: bool,
    /// Directory that Hugging Face's programs share, whose `hub` is the cache; inside the home if `None`.
    pub hf_home: Option<PathBuf>,
    /// Token for gated repositories.
    pub hf_token: Option<String>,
    /// Address of the Hugging Face Hub, or of a mirror.
    pub hf_endpoint: String,
    /// Address of the Ollama registry.
    pub ollama_registry: String,
    /// Directory where Ollama itself keeps its models.
    pub ollama_models: Option<PathBuf>,
    /// How many connections fetch parts of one file at once.
    pub connections: usize,
}

/// What a program writes of what happens. The libraries only say it; programs write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LogOptions {
    /// For people, or for programs.
    pub format: LogFormat,
}

/// How a log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// A line of text.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Limits of each loaded model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelsOptions {
    /// The longest sequence to serve, in tokens; what the model was made for if `None`.
    pub context_tokens: Option<NonZeroUsize>,
    /// How many sequences share one step at most.
    pub max_sequences: NonZeroUsize,
    /// How many requests may wait in front of a model; 65,536 at most.
    #[serde(deserialize_with = "queue")]
    pub queue: NonZeroUsize,
    /// How many prompt tokens one step computes at most.
    pub prefill_tokens: NonZeroUsize,
    /// How much room packed weights of all models may take on disk together.
    pub packed_cache: Room,
    /// How long a model stays in memory after its last use, unless its memory is needed before.
    pub keep_alive: KeepAlive,
    /// Seconds after which a stream whose reader takes nothing is ended; a year at most.
    pub stalled_reader_s: u64,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { host: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 8484, origins: Vec::new() }
    }
}

impl Default for ComputeOptions {
    fn default() -> Self {
        Self {
            device: "auto".to_owned(),
            executor: ExecutorChoice::Auto,
            cache: CacheChoice::F16,
            encoders: EncodersChoice::Stored,
            weights: WeightsChoice::Stored,
            instructions: InstructionsChoice::Auto,
            threads: None,
        }
    }
}

impl fmt::Debug for FetchSettings {
    /// Leaves the token out: what is printed for debugging is kept and shown around.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchSettings")
            .field("offline", &self.offline)
            .field("hf_home", &self.hf_home)
            .field("hf_endpoint", &self.hf_endpoint)
            .field("ollama_registry", &self.ollama_registry)
            .field("ollama_models", &self.ollama_models)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self {
            offline: false,
            hf_home: None,
            hf_token: None,
            hf_endpoint: "https://huggingface.co".to_owned(),
            ollama_registry: "https://registry.ollama.ai".to_owned(),
            ollama_models: None,
            connections: 4,
        }
    }
}

impl Default for ModelsOptions {
    fn default() -> Self {
        let load = LoadOptions::default();
        let some = |number: usize| NonZeroUsize::MIN.saturating_add(number.saturating_sub(1));
        Self {
            context_tokens: load.context_tokens.map(some),
            max_sequences: some(load.max_sequences),
            queue: some(load.queue),
            prefill_tokens: some(load.prefill_tokens),
            packed_cache: Room::default(),
            keep_alive: KeepAlive::default(),
            stalled_reader_s: load.stalled_reader.as_secs(),
        }
    }
}

impl ModelsOptions {
    /// Returns these limits as a model takes them, on `device`.
    pub fn load_options(&self, device: Device) -> LoadOptions {
        let mut options = LoadOptions::default()
            .device(device)
            .max_sequences(self.max_sequences.get())
            .queue(self.queue.get())
            .prefill_tokens(self.prefill_tokens.get())
            .stalled_reader(self.stalled_reader());
        options.context_tokens = self.context_tokens.map(NonZeroUsize::get);
        options
    }

    /// Returns after how long a stream whose reader takes nothing is ended.
    pub fn stalled_reader(&self) -> Duration {
        const YEAR_S: u64 = 365 * 24 * 60 * 60;
        Duration::from_secs(self.stalled_reader_s.min(YEAR_S))
    }
}

impl HubConfig {
    /// Returns how a model is opened on `device`.
    pub fn load_options(&self, device: Device) -> LoadOptions {
        self.models.load_options(device).executor(self.compute.executor_options())
    }

    /// Returns where packed weights are kept in a home, and how many: none for a device whose executor packs none.
    pub(crate) fn packed_cache(&self, home: &Home, device: &Device) -> PackedCache {
        let encoders = match self.compute.encoders {
            EncodersChoice::Stored => "stored",
            EncodersChoice::Q8 => "q8",
        };
        let form = match self.compute.weights.mix() {
            None => encoders.to_owned(),
            Some(mix) => format!("{encoders}-{mix}"),
        };
        let is_packed = self.compute.executor_options().for_device(device).kind == ExecutorKind::Cpu;
        let room = if is_packed { self.models.packed_cache.0 } else { 0 };
        PackedCache::new(home.path().join("packed"), room, form)
    }

    /// Sets how much memory models may use together.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.memory.budget = budget;
        self
    }

    /// Adds an alias that leads to `model`.
    #[must_use]
    pub fn alias(mut self, alias: impl Into<String>, model: impl Into<String>) -> Self {
        self.aliases.insert(alias.into(), OneOrMany::One(model.into()));
        self
    }

    /// Returns what the router takes.
    pub fn router_options(&self) -> RouterOptions {
        let mut options = RouterOptions::default();
        options.aliases.clone_from(&self.aliases);
        options
    }
}

/// Reads a number of threads that a machine can start.
fn threads<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroUsize>, D::Error> {
    Option::<NonZeroUsize>::deserialize(deserializer)?.map(|threads| at_most(threads, 1_024)).transpose()
}

/// Reads a number of requests that a machine can hold.
fn queue<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NonZeroUsize, D::Error> {
    at_most(NonZeroUsize::deserialize(deserializer)?, 65_536)
}

fn at_most<E: serde::de::Error>(number: NonZeroUsize, most: usize) -> Result<NonZeroUsize, E> {
    if number.get() > most {
        return Err(E::custom(format_args!("must be at most {most}, not {number}")));
    }
    Ok(number)
}

/// Reads a switch, which variables write as a number.
fn switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match toml::Value::deserialize(deserializer)? {
        toml::Value::Boolean(is_on) => Ok(is_on),
        toml::Value::Integer(number @ (0 | 1)) => Ok(number == 1),
        other => Err(serde::de::Error::custom(format_args!("{other} is neither true nor false"))),
    }
}

/// Reads an address; people write `localhost` for the loopback one.
fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.eq_ignore_ascii_case("localhost") {
        return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    text.parse().map_err(|_| {
        serde::de::Error::custom(format_args!("{text:?} is no address: write 127.0.0.1, ::1 or 0.0.0.0"))
    })
}
