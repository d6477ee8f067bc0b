use std::{path::Path, sync::Arc, time::Duration};

use hub_base::{Account, CancelToken, ProgressSink, Task};
use hub_models::Source;
use hub_nn::Device;
use hub_router::{Request, Router};
use hub_store::Store;

use crate::{
    Error, Home, HubConfig, Installed, LoadedModel, LoadingModel, Result,
    catalog::PackedCache,
    config::{Budget, KeepAlive},
    os,
    pull::Puller,
    registry::Registry,
};

/// The whole hub: its models, its store, its router. Clones share it.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    config: HubConfig,
    home: Home,
    store: Store,
    router: Router,
    registry: Registry,
    packed: PackedCache,
    puller: Puller,
    builtin: Installed,
}

impl Hub {
    /// Opens every part as `config` says, with everything the hub owns in `home`, which is created if need be.
    ///
    /// No model is loaded: each is on its first use. Several programs may open one home; only one may serve it
    /// ([`Home::lock`]).
    ///
    /// # Errors
    /// [`Error::Home`], [`Error::Store`], [`Error::Device`] or [`Error::Router`] for the part that does not open.
    pub async fn open(config: HubConfig, home: &Path) -> Result<Self> {
        let home = Home::create(home)?;
        let router = Router::new(config.router_options())?;
        let budget = budget_bytes(config.memory.budget)?;
        let account = Account::new(budget);
        let puller = Puller::new(&config, &home.path().join("models"), budget);
        config.compute.ignored().iter().for_each(|note| tracing::warn!("{note}"));
        let name = config.compute.device.clone();
        // Opening a card takes its driver a while.
        let options = config.compute.device_options();
        let device = blocking(move || Device::open(&name, account, options)).await??;
        let guide = blocking(|| hub_models::inspect(&Source::Guide)).await??;
        let builtin = Installed::builtin(&guide)?;
        let store = Store::open(home.path(), config.store.clone()).await?;
        let packed = config.packed_cache(&home, &device);
        let load = config.load_options(device.clone());
        let registry = Registry::new(device, load, packed.clone(), config.models.keep_alive);
        Ok(Self(Arc::new(Parts { config, home, store, router, registry, packed, puller, builtin })))
    }

    /// Returns the settings in force.
    pub fn config(&self) -> &HubConfig {
        &self.0.config
    }

    /// Returns the directory that holds everything the hub owns.
    pub fn home(&self) -> &Home {
        &self.0.home
    }

    /// Returns keys, usage and the catalog of models, as rows.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Returns the account of memory that all models share.
    pub fn account(&self) -> &Account {
        self.registry().device().account()
    }

    /// Returns the device that models run on: `cpu`, `cuda:0`.
    pub fn device_name(&self) -> &str {
        self.registry().device().name()
    }

    /// Lists the models in memory, by name.
    pub fn loaded(&self) -> Vec<LoadedModel> {
        self.registry().loaded()
    }

    /// Loads the model that `name` leads to (a model, an alias, `auto`), if it is not in memory: for `task`, for what it
    /// does if that is `None`.
    ///
    /// It stays for `keep_alive`, or as long as the settings say. Nothing is sent to `progress` if it is in memory already.
    ///
    /// # Errors
    /// [`Error::Router`] if there is none, otherwise what the load failed of.
    pub async fn load(
        &self,
        name: &str,
        task: impl Into<Option<Task>>,
        keep_alive: Option<KeepAlive>,
        progress: ProgressSink,
    ) -> Result<Installed> {
        let installed = self.find(name, task.into()).await?;
        self.registry().get(&installed, keep_alive, progress).await?;
        Ok(installed)
    }

    /// Unloads the model that `name` leads to, as soon as nobody uses it.
    ///
    /// # Errors
    /// [`Error::Router`] if there is none.
    pub async fn unload(&self, name: &str) -> Result<Installed> {
        let installed = self.find(name, None).await?;
        self.registry().let_go(&installed.name);
        Ok(installed)
    }

    /// Finds the model that `name` leads to for a task, or for what it does.
    async fn find(&self, name: &str, task: Option<Task>) -> Result<Installed> {
        let task = match task {
            Some(task) => task,
            // Of names that lead to no model of their own, chat is what is asked most.
            None => self.model_behind(name).await.map_or(Task::Chat, |model| model.task),
        };
        let request = Request { model: name, task, prompt_tokens: 0, max_tokens: None };
        Ok(self.plan_one(&request).await?.installed)
    }

    /// Lists the models that are being loaded, by name.
    pub fn loading(&self) -> Vec<LoadingModel> {
        self.registry().loading()
    }

    /// Counts the tokens of a text as the model that `name` leads to does; loads it if need be.
    ///
    /// # Errors
    /// As [`Hub::load`].
    pub async fn count_tokens(&self, name: &str, text: String) -> Result<usize> {
        let request = Request { model: name, task: Task::Chat, prompt_tokens: 0, max_tokens: None };
        let installed = self.plan_one(&request).await?.installed;
        let lease = self.registry().get(&installed, None, ProgressSink::default()).await?;
        let model = lease.text()?.clone();
        Ok(blocking(move || model.count_tokens(&text)).await??)
    }

    /// Refuses new requests, lets those that run end within `grace`, unloads every model and closes the store.
    ///
    /// Every clone is shut down with it.
    pub async fn shutdown(&self, grace: Duration) {
        self.registry().close(grace).await;
        self.store().close().await;
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0.registry
    }

    pub(crate) fn packed(&self) -> &PackedCache {
        &self.0.packed
    }

    pub(crate) fn puller(&self) -> &Puller {
        &self.0.puller
    }

    pub(crate) fn router(&self) -> &Router {
        &self.0.router
    }

    pub(crate) fn builtin(&self) -> &Installed {
        &self.0.builtin
    }
}

/// Returns the budget in bytes; a share is of what this process may use.
fn budget_bytes(budget: Budget) -> Result<u64> {
    match budget {
        Budget::Bytes(bytes) => Ok(bytes),
        Budget::Percent(_) => Ok(budget.bytes(os::memory_bytes().ok_or(Error::MemoryUnknown)?)),
    }
}

/// Stops work that runs elsewhere once the future that waits for it is dropped.
#[derive(Debug)]
pub(crate) struct CancelOnDrop(CancelToken);

impl CancelOnDrop {
    /// Stops the work that looks at this flag, which others may set too.
    pub(crate) fn of(token: CancelToken) -> Self {
        Self(token)
    }

    /// Returns the flag that the work looks at.
    pub(crate) fn token(&self) -> CancelToken {
        self.0.clone()
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Runs `work` on the pool of threads that may block.
///
/// # Errors
/// [`Error::Stopped`] if it panicked or the runtime is going away.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work)).await.map_err(|_| Error::Stopped)
}
