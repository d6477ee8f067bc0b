//! The hub's server alone, configured by `hub.toml` in its home and by `HUB_*` variables; `hub serve` is the same
//! with flags, progress and help.

use std::{env, error::Error, fs, io, path::PathBuf, process::ExitCode, time::Duration};

use hub::{Home, Hub, config};
use hub_server::Server;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = error.as_ref() as &dyn Error, "the server does not start");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let home =
        env::var_os("HUB_HOME").map(PathBuf::from).ok_or("set HUB_HOME to the directory of the hub")?;
    let file = home.join("hub.toml");
    let text = match fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        text => Some(text?),
    };
    // What is not text is no setting of ours.
    let variables =
        env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
    let resolved = config::resolve(text.as_deref().map(|text| (file.as_path(), text)), variables, [])?;
    let lock = Home::create(&home)?.lock()?;
    let hub = Hub::open(resolved.config, &home).await?;
    let announce = |server: &Server| {
        let url = server.url();
        tracing::info!("listening on {url}");
        if let Err(error) = lock.announce(&url) {
            tracing::warn!(%error, "other programs were not told where the server listens");
        }
    };
    let served = hub_server::serve(hub.clone(), announce).await;
    hub.shutdown(Duration::from_secs(1)).await;
    Ok(served?)
}
