//! Requests: retried where that can help, never with a token for anybody but the registry.

use std::{io::Read, ops::Range, thread, time::Duration};

use hub_base::CancelToken;
use serde::de::DeserializeOwned;
use ureq::{
    Agent, Body,
    config::RedirectAuthHeaders,
    http::{Response, StatusCode, header, response},
};

use crate::{Error, Result};

/// How often a request is tried that fails for a passing reason.
pub(crate) const TRIES: u32 = 6;
/// How long an answer of JSON may be.
const MAX_JSON_BYTES: u64 = 32 << 20;
/// How long a server may ask to be left alone.
const MAX_WAIT: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: u32 = 10;
/// How long nothing may arrive.
const STALLED: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(15);

/// Sends requests.
#[derive(Clone, Debug)]
pub(crate) struct Web {
    agent: Agent,
    is_offline: bool,
}

/// What is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask<'a> {
    pub(crate) url: &'a str,
    /// Sent to the host of `url`, and on to no other.
    pub(crate) bearer: Option<&'a str>,
    pub(crate) accept: Option<&'static str>,
    pub(crate) range: Option<Range<u64>>,
    pub(crate) is_head: bool,
    /// Takes an answer that leads elsewhere as the answer.
    pub(crate) stays: bool,
}

/// Why a single try failed.
pub(crate) enum Failure {
    /// The next try may succeed; the server may have said when.
    Passing(Error, Option<Duration>),
    /// No try will.
    Lasting(Error),
}

impl Web {
    pub(crate) fn new(is_offline: bool) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            // The environment is the programs' business.
            .proxy(None)
            // A compressed answer would have another length than the file.
            .accept_encoding("identity")
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(STALLED))
            .timeout_per_read(Some(STALLED))
            .user_agent(concat!("ai-backend-hub/", env!("CARGO_PKG_VERSION")));
        Self { agent: Agent::new_with_config(config.build()), is_offline }
    }

    /// Asks once.
    pub(crate) fn try_once(&self, ask: &Ask<'_>) -> std::result::Result<Response<Body>, Failure> {
        if self.is_offline {
            return Err(Failure::Lasting(Error::Offline { what: ask.url.to_owned(), place: None }));
        }
        let request = if ask.is_head { self.agent.head(ask.url) } else { self.agent.get(ask.url) };
        let redirects = if ask.stays { 0 } else { MAX_REDIRECTS };
        let mut request =
            request.config().max_redirects(redirects).max_redirects_will_error(!ask.stays).build();
        if let Some(bearer) = ask.bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        if let Some(accept) = ask.accept {
            request = request.header(header::ACCEPT, accept);
        }
        if let Some(range) = &ask.range {
            request = request
                .header(header::RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        let response = request.call().map_err(|error| network(ask.url, error))?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS
            || status == StatusCode::REQUEST_TIMEOUT
            || status.is_server_error()
        {
            let after = response.headers().get(header::RETRY_AFTER);
            let after = after.and_then(|after| after.to_str().ok()?.parse().ok()).map(Duration::from_secs);
            let error = Error::Overloaded { host: host_of(ask.url), status: status.as_u16() };
            return Err(Failure::Passing(error, after));
        }
        Ok(response)
    }

    /// Asks until there is an answer that is no passing failure.
    pub(crate) fn ask(&self, ask: &Ask<'_>, cancel: &CancelToken) -> Result<Response<Body>> {
        retried(cancel, || self.try_once(ask))
    }

    /// Asks until there is an answer that is no passing failure, and is whole: its head and its body, of which at most
    /// so many bytes are read.
    pub(crate) fn read(
        &self,
        ask: &Ask<'_>,
        most_bytes: u64,
        cancel: &CancelToken,
    ) -> Result<(response::Parts, Vec<u8>)> {
        retried(cancel, || {
            let (head, mut body) = self.try_once(ask)?.into_parts();
            let mut bytes = Vec::new();
            match body.as_reader().take(most_bytes).read_to_end(&mut bytes) {
                Ok(_) => Ok((head, bytes)),
                Err(source) => {
                    let error = Error::Network { host: host_of(ask.url), source: source.into() };
                    Err(Failure::Passing(error, None))
                }
            }
        })
    }

    /// Asks for JSON; an answer that is an error is returned as its status.
    pub(crate) fn json<T: DeserializeOwned>(
        &self,
        ask: &Ask<'_>,
        cancel: &CancelToken,
    ) -> Result<std::result::Result<T, StatusCode>> {
        let (head, bytes) = self.read(ask, MAX_JSON_BYTES, cancel)?;
        if !head.status.is_success() {
            return Ok(Err(head.status));
        }
        let value = serde_json::from_slice(&bytes);
        let unreadable =
            |error: serde_json::Error| Error::Answer { url: ask.url.to_owned(), reason: error.to_string() };
        Ok(Ok(value.map_err(unreadable)?))
    }
}

/// Tries until a try does not fail, or fails for good.
fn retried<T>(cancel: &CancelToken, mut once: impl FnMut() -> std::result::Result<T, Failure>) -> Result<T> {
    let mut tries = 0;
    loop {
        tries += 1;
        match once() {
            Ok(answer) => return Ok(answer),
            Err(Failure::Passing(_, after)) if tries < TRIES => rest(tries, after, cancel)?,
            Err(Failure::Passing(error, _) | Failure::Lasting(error)) => return Err(error),
        }
    }
}

/// Tells failures of the network, which pass, from those of the request.
fn network(url: &str, error: ureq::Error) -> Failure {
    let host = host_of(url);
    match error {
        ureq::Error::BadUri(reason) => Failure::Lasting(Error::Answer { url: url.to_owned(), reason }),
        error @ (ureq::Error::TooManyRedirects | ureq::Error::RedirectFailed | ureq::Error::Tls(_)) => {
            Failure::Lasting(Error::Network { host, source: error.into() })
        }
        error => Failure::Passing(Error::Network { host, source: error.into() }, None),
    }
}

/// Waits before the next try: as long as the server said, else longer each time.
pub(crate) fn rest(tries: u32, after: Option<Duration>, cancel: &CancelToken) -> Result<()> {
    const STEP: Duration = Duration::from_millis(50);
    let mut left = after.unwrap_or(Duration::from_millis(100 << tries.min(8))).min(MAX_WAIT);
    while !left.is_zero() {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let step = left.min(STEP);
        thread::sleep(step);
        left -= step;
    }
    Ok(())
}

/// Returns the server's part of an address, as errors name it.
pub(crate) fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest).to_owned()
}
