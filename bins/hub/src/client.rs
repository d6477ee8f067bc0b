//! What a command asks of a running server.

use std::{io::Read, time::Duration};

use serde_json::Value;
use ureq::{Body, http::Response};

use crate::{failure::Failure, session::Session};

/// How long a server may take to say what it is doing.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a server that is alive takes to say so.
const PULSE: Duration = Duration::from_secs(2);

/// Which server a command asks.
#[derive(Debug, clap::Args)]
pub(crate) struct Server {
    /// The server to ask [default: HUB_URL, or the one that serves the home directory]
    #[arg(long)]
    url: Option<String>,
    /// The key to send [default: HUB_API_KEY]
    #[arg(long)]
    key: Option<String>,
}

impl Server {
    /// Gets a JSON value.
    pub(crate) fn get(&self, session: &Session, path: &str) -> Result<Value, Failure> {
        get(&server(session, self.url.as_deref())?, path, self.key(session))
    }

    /// Posts a JSON value. The answer may take its time.
    pub(crate) fn post(&self, session: &Session, path: &str, body: &Value) -> Result<Answer, Failure> {
        post(&server(session, self.url.as_deref())?, path, self.key(session), body)
    }

    fn key<'a>(&'a self, session: &'a Session) -> Option<&'a str> {
        self.key.as_deref().or(session.environment.key.as_deref())
    }
}

/// Returns the address of the server to ask: the one named, else the one that serves this home.
pub(crate) fn server(session: &Session, url: Option<&str>) -> Result<String, Failure> {
    let named = url.map(str::to_owned).or_else(|| session.environment.url.clone());
    let address = named.or_else(|| session.home().server_address());
    let no_server = || Failure::NoServer { home: session.environment.home.clone() };
    let address = address.ok_or_else(no_server)?;
    // Ollama's users leave the scheme out.
    let scheme = if address.contains("://") { "" } else { "http://" };
    Ok(format!("{scheme}{}", address.trim_end_matches('/')))
}

/// Tells whether a server answers.
pub(crate) fn is_alive(server: &str) -> bool {
    agent(Some(PULSE)).get(format!("{server}/health")).call().is_ok_and(|answer| answer.status().is_success())
}

/// Gets a JSON value, with a key if there is one.
pub(crate) fn get(server: &str, path: &str, key: Option<&str>) -> Result<Value, Failure> {
    let mut request = agent(Some(PATIENCE)).get(format!("{server}{path}"));
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    accepted(server, path, request.call())?.read()
}

/// Posts a JSON value, with a key if there is one. The answer may take its time.
pub(crate) fn post(server: &str, path: &str, key: Option<&str>, body: &Value) -> Result<Answer, Failure> {
    let mut request = agent(None).post(format!("{server}{path}")).header("content-type", "application/json");
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    accepted(server, path, request.send(body.to_string()))
}

/// An answer whose status says that it is one.
pub(crate) struct Answer {
    url: String,
    response: Response<Body>,
}

impl Answer {
    /// Returns the bytes as they come.
    pub(crate) fn into_reader(self) -> impl Read {
        self.response.into_body().into_reader()
    }

    /// Reads it whole.
    pub(crate) fn read(mut self) -> Result<Value, Failure> {
        let no_answer = || Failure::Refused {
            url: self.url.clone(),
            status: self.response.status().as_u16(),
            message: NO_ANSWER.to_owned(),
        };
        let failure = no_answer();
        let text = self.response.body_mut().read_to_string();
        text.ok().and_then(|text| serde_json::from_str(&text).ok()).ok_or(failure)
    }
}

/// What is said of a server that speaks another language.
const NO_ANSWER: &str = "this is no answer of a hub";

fn agent(patience: Option<Duration>) -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(patience);
    ureq::Agent::new_with_config(config.build())
}

/// Returns an answer if its status is a good one.
fn accepted(
    server: &str,
    path: &str,
    answered: Result<Response<Body>, ureq::Error>,
) -> Result<Answer, Failure> {
    let unreachable = |source| Failure::Unreachable { url: server.to_owned(), source: Box::new(source) };
    let mut response = answered.map_err(unreachable)?;
    let (url, status) = (format!("{server}{path}"), response.status());
    if status.is_success() {
        return Ok(Answer { url, response });
    }
    let text = response.body_mut().read_to_string().map_err(unreachable)?;
    let value: Option<Value> = serde_json::from_str(&text).ok();
    // OpenAI's shape, or Ollama's.
    let message = value.as_ref().and_then(|value| {
        value.pointer("/error/message").or_else(|| value.get("error")).and_then(Value::as_str)
    });
    let mut message = message.unwrap_or(NO_ANSWER).to_owned();
    if status.as_u16() == 401 {
        message.push_str("; give it with --key or HUB_API_KEY");
    }
    Err(Failure::Refused { url, status: status.as_u16(), message })
}
