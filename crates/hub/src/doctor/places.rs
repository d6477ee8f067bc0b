use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    path::Path,
};

use hub_base::Size;
use hub_store::Store;

use super::Finding;
use crate::{Home, HubConfig, os};

/// Whether there is room for models.
pub(super) fn disk(home: &Path) -> Finding {
    const LITTLE: u64 = 10 << 30;
    let name = "disk";
    if let Err(error) = Home::create(home) {
        let next = "set HUB_HOME to a directory that can be written";
        return Finding::failure(name, error.to_string(), next);
    }
    match os::free_disk_bytes(home) {
        Some(free) if free < LITTLE => {
            let found = format!("{} are free at {}", Size(free), home.display());
            Finding::warning(name, found, "make room, or set HUB_HOME to another disk: models take gigabytes")
        }
        Some(free) => Finding::ok(name, format!("{} are free at {}", Size(free), home.display())),
        None => Finding::ok(name, format!("{}; the system does not say how much is free", home.display())),
    }
}

/// Whether the server can have its port, or has it.
pub(super) fn port(config: &HubConfig, home: &Home) -> Finding {
    let name = "server";
    if let Some(address) = home.server_address() {
        return Finding::ok(name, format!("running at {address}"));
    }
    let address = SocketAddr::new(config.server.host, config.server.port);
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(name, format!("not running; {address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Finding::failure(
            name,
            format!("another program has {address}"),
            "stop it, or set `server.port` to another port",
        ),
        Err(error) => Finding::failure(
            name,
            format!("cannot listen on {address}: {error}"),
            "set `server.host` to an address of this machine",
        ),
    }
}

/// Which models of other programs are here.
pub(super) fn caches(config: &HubConfig) -> [Finding; 2] {
    let count = |folder: &Path, is_model: fn(&str) -> bool| {
        let entries = fs::read_dir(folder).ok()?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Some(names.filter(|name| is_model(name)).count())
    };
    let say = |name, folder: Option<&Path>, found: Option<usize>| match (folder, found) {
        (Some(folder), Some(1)) => Finding::ok(name, format!("1 model in {}", folder.display())),
        (Some(folder), Some(count)) => Finding::ok(name, format!("{count} models in {}", folder.display())),
        _ => Finding::ok(name, "no cache"),
    };
    let hugging_face = config.fetch.hf_home.as_ref().map(|home| home.join("hub"));
    let in_hub =
        hugging_face.as_deref().and_then(|folder| count(folder, |name| name.starts_with("models--")));
    let ollama =
        config.fetch.ollama_models.as_ref().map(|models| models.join("manifests/registry.ollama.ai/library"));
    let in_ollama = ollama.as_deref().and_then(|folder| count(folder, |name| !name.starts_with('.')));
    [
        say("Hugging Face", hugging_face.as_deref(), in_hub),
        say("Ollama", config.fetch.ollama_models.as_deref(), in_ollama),
    ]
}

/// Whether the store opens.
pub(super) async fn store(config: &HubConfig, home: &Path) -> Finding {
    let name = "store";
    let store = match Store::open(home, config.store.clone()).await {
        Ok(store) => store,
        Err(error) => {
            let next = "restore hub.db from a backup, or move it away: models and keys are listed in it";
            return Finding::failure(name, error.to_string(), next);
        }
    };
    let models = store.catalog().list().await;
    store.close().await;
    match models {
        Ok(models) => {
            let gone: Vec<_> = models.iter().filter(|model| !Path::new(&model.path).exists()).collect();
            match gone.first() {
                Some(first) => Finding::warning(
                    name,
                    format!("{} models, the files of {} of them gone", models.len(), gone.len()),
                    format!("put them back, or `hub rm {}`", first.name),
                ),
                None => Finding::ok(name, format!("SQLite, {} models", models.len())),
            }
        }
        Err(error) => Finding::failure(name, error.to_string(), "run it again; if it stays, restore hub.db"),
    }
}
