use std::{
    fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    time::Duration,
};

use hub::{
    Home, Hub,
    config::{LogFormat, Resolved, resolve},
};
use tokio::runtime::Runtime;
use tracing_subscriber::filter::LevelFilter;

use crate::{args::Global, environment::Environment, failure::Failure, output::Output};

/// A flag that sets a setting: the flag, the key, the value.
pub(crate) type Flag = (&'static str, &'static str, String);

/// What every command works with.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) output: Output,
    pub(crate) environment: Environment,
    config_path: PathBuf,
    /// Whether somebody named the configuration file, who then expects it to be there.
    is_config_named: bool,
    verbose: u8,
}

impl Session {
    pub(crate) fn new(global: &Global, mut environment: Environment) -> Self {
        if let Some(home) = &global.home {
            environment.home.clone_from(home);
        }
        let config_path = global.config.clone().unwrap_or_else(|| environment.home.join("hub.toml"));
        let output = Output { is_json: global.json };
        let is_config_named = global.config.is_some();
        Self { output, environment, config_path, is_config_named, verbose: global.verbose }
    }

    /// Returns the hub's directory, which need not exist.
    pub(crate) fn home(&self) -> Home {
        Home::at(&self.environment.home)
    }

    /// Returns where the configuration file is, or would be.
    pub(crate) fn config_path(&self) -> &Path {
        &self.config_path
    }

    /// Merges the configuration file, the variables and `flags`.
    pub(crate) fn settings(&self, flags: Vec<Flag>) -> Result<Resolved, Failure> {
        let path = self.config_path();
        let text = match fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_config_named => None,
            Err(source) => return Err(Failure::Read { path: path.to_owned(), source }),
        };
        let file = text.as_deref().map(|text| (path, text));
        let variables = self.environment.variables.iter().cloned();
        let mut resolved = resolve(file, variables, flags).map_err(hub::Error::from)?;
        let fetch = &mut resolved.config.fetch;
        fetch.hf_home.get_or_insert_with(|| self.environment.hf_home.clone());
        fetch.ollama_models = fetch.ollama_models.take().or_else(|| self.environment.ollama_models.clone());
        Ok(resolved)
    }

    /// Opens the hub, runs `work` with it, and shuts it down.
    pub(crate) fn with_hub<T>(
        &self,
        flags: Vec<Flag>,
        work: impl AsyncFnOnce(&Hub) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.with_hub_that_logs(LevelFilter::WARN, flags, work)
    }

    /// The same for a command that answers `-v` with figures of its own: the log begins with `-vv`.
    pub(crate) fn with_quiet_hub<T>(
        &self,
        work: impl AsyncFnOnce(&Hub) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let verbose = self.verbose.saturating_sub(1);
        let quiet = Self { verbose, ..self.clone() };
        quiet.with_hub(Vec::new(), work)
    }

    /// Runs `work` without a hub in this process.
    pub(crate) fn with_runtime<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let runtime = Runtime::new().map_err(Failure::Runtime)?;
        let done = runtime.block_on(work);
        // A thread that waits for a server's next word is no reason to stay.
        runtime.shutdown_background();
        done
    }

    /// Whether more than the answer is wanted.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose > 0
    }

    /// The same, with what happens written from `level` on.
    pub(crate) fn with_hub_that_logs<T>(
        &self,
        level: LevelFilter,
        flags: Vec<Flag>,
        work: impl AsyncFnOnce(&Hub) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let config = self.settings(flags)?.config;
        if let Some(threads) = config.compute.threads {
            limit_threads(threads.get());
        }
        self.log(level, config.log.format);
        let runtime = Runtime::new().map_err(Failure::Runtime)?;
        runtime.block_on(async {
            let hub = Hub::open(config, &self.environment.home).await?;
            let done = work(&hub).await;
            hub.shutdown(Duration::ZERO).await;
            done
        })
    }

    /// Writes what happens to standard error, from `level` on; more with `-v`.
    fn log(&self, level: LevelFilter, format: LogFormat) {
        let level = match self.verbose {
            0 => level,
            1 => level.max(LevelFilter::INFO),
            2 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        };
        let is_terminal = io::stderr().is_terminal();
        let subscriber =
            tracing_subscriber::fmt().with_max_level(level).with_ansi(is_terminal).with_writer(io::stderr);
        // There is one already only where two commands run in one process, in a test.
        let _ = match format {
            LogFormat::Text => subscriber.try_init(),
            LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
        };
    }
}

/// Makes the libraries that compute start this many threads.
///
/// They read these variables when they first compute, and offer no other way.
fn limit_threads(threads: usize) {
    for name in ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"] {
        // SAFETY: the process has no other thread yet: commands start theirs after this.
        #[expect(unsafe_code, reason = "the variables of a process can be set no other way")]
        unsafe {
            std::env::set_var(name, threads.to_string());
        }
    }
}
