use hub::{Home, HomeLock, Hub};
use hub_server::Server;
use serde_json::json;
use tracing_subscriber::filter::LevelFilter;

use crate::{
    failure::Failure,
    output::{Output, line},
    progress::ProgressLine,
    session::Session,
};

/// Serves every model over HTTP until it is stopped
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The port; 0 takes a free one [default: 8484]
    #[arg(long)]
    port: Option<u16>,
    /// The address to listen on [default: 127.0.0.1]
    #[arg(long)]
    host: Option<String>,
    /// Loads this model before the server is ready; can be given several times
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
}

impl Args {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        let port = self.port.map(|port| ("--port", "server.port", port.to_string()));
        let host = self.host.map(|host| ("--host", "server.host", host));
        let lock = Home::create(&session.environment.home)?.lock()?;
        let flags = port.into_iter().chain(host).collect();
        session.with_hub_that_logs(LevelFilter::INFO, flags, async |hub| {
            preload(hub, &self.models).await?;
            let ready = |server: &Server| announce(session.output, &lock, server);
            hub_server::serve(hub.clone(), ready).await?;
            Ok(())
        })
    }
}

async fn preload(hub: &Hub, models: &[String]) -> Result<(), Failure> {
    let progress = ProgressLine::new();
    for name in models {
        hub.load(name, None, None, progress.sink()).await?;
    }
    Ok(())
}

/// Says where the server listens: to whoever started it, and to the other commands.
fn announce(output: Output, lock: &HomeLock, server: &Server) {
    let url = &server.url();
    let key = if server.wants_keys() { " -H 'authorization: Bearer hub_…'" } else { "" };
    let told = lock.announce(url).map_err(Failure::from).and_then(|()| {
        if output.is_json {
            return line(&json!({ "listening": url }).to_string());
        }
        output.emit(&json!({ "listening": url }), |_| {
            let body = r#"{"model":"auto","messages":[{"role":"user","content":"How do I import a model?"}]}"#;
            format!(
                "listening on {url}\n\n  curl {url}/v1/chat/completions -H 'content-type: application/json'{key} -d '{body}'\n"
            )
        })
    });
    if let Err(error) = told {
        // A server whose standard output is closed still serves.
        tracing::warn!(%error, "not everybody was told where the server listens");
    }
}
