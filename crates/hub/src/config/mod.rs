//! Every setting of the hub, and where each value came from.
//!
//! Nothing here reads a file or the environment: [`resolve`] is handed their text. Later wins: default, `hub.toml`,
//! `HUB_*` variable, flag.

mod budget;
mod error;
mod keep_alive;
mod nearest;
mod options;
mod origin;
mod resolve;
mod settings;

pub use budget::{Budget, InvalidBudget, InvalidRoom, Room};
pub use error::ConfigError;
pub use keep_alive::{InvalidKeepAlive, KeepAlive};
pub use options::{
    AuthOptions, CacheChoice, ComputeOptions, EncodersChoice, ExecutorChoice, FetchSettings, HubConfig,
    InstructionsChoice, LocalAccess, LogFormat, LogOptions, MemoryOptions, ModelsOptions, ServerOptions,
    WeightsChoice,
};
pub use origin::{InvalidOrigin, PageOrigin, host_of, is_loopback_name};
pub use resolve::{Entry, Origin, Resolved, resolve};
pub use settings::{SETTINGS, Setting};
