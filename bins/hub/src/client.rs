//! What a command asks of a running server.

use std::time::Duration;

use serde_json::Value;

use crate::{failure::Failure, session::Session};

/// How long a server may take to say what it is doing.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns the address of the server to ask: the one named, else the one that serves this home.
pub(crate) fn server(session: &Session, url: Option<&str>) -> Result<String, Failure> {
    let named = url.map(str::to_owned).or_else(|| session.environment.url.clone());
    let address = named.or_else(|| session.home().server_address());
    let no_server = || Failure::NoServer { home: session.environment.home.clone() };
    Ok(address.ok_or_else(no_server)?.trim_end_matches('/').to_owned())
}

/// Gets a JSON value, with a key if there is one.
pub(crate) fn get(server: &str, path: &str, key: Option<&str>) -> Result<Value, Failure> {
    let url = format!("{server}{path}");
    let unreachable = |source| Failure::Unreachable { url: server.to_owned(), source: Box::new(source) };
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
    let agent = ureq::Agent::new_with_config(config.build());
    let mut request = agent.get(&url);
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let mut response = request.call().map_err(unreachable)?;
    let status = response.status();
    let text = response.body_mut().read_to_string().map_err(unreachable)?;
    let value: Option<Value> = serde_json::from_str(&text).ok();
    match value {
        Some(value) if status.is_success() => Ok(value),
        value => {
            let message = value.as_ref().and_then(|value| value.pointer("/error/message")?.as_str());
            let mut message = message.unwrap_or("this is no answer of a hub").to_owned();
            if status.as_u16() == 401 {
                message.push_str("; give it with --key or HUB_API_KEY");
            }
            Err(Failure::Refused { url, status: status.as_u16(), message })
        }
    }
}
