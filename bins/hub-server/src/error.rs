use std::{error::Error as _, fmt::Write as _};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hub_base::ErrorKind;
use schemars::JsonSchema;
use serde::Serialize;

use crate::json;

/// How long a caller is told to wait before trying again, in seconds.
const RETRY_AFTER_S: u32 = 1;

/// An answer that is an error: a status and OpenAI's envelope.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
    /// Whether the same request may be answered later.
    is_passing: bool,
}

/// OpenAI's envelope. All four keys are always there.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Error")]
pub(crate) struct Envelope<'a> {
    error: Body<'a>,
}

#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ErrorBody")]
struct Body<'a> {
    /// What is wrong, and the next step to take.
    message: &'a str,
    /// The coarse kind of the error.
    r#type: &'static str,
    /// The field at fault.
    param: Option<&'a str>,
    /// What programs tell errors apart by.
    code: Option<&'static str>,
}

/// An error as Ollama writes it.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "OllamaError")]
pub(crate) struct OllamaError<'a> {
    /// What is wrong, and the next step to take.
    error: &'a str,
}

impl ApiError {
    /// Makes an error with nothing but a status and a message.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let is_passing = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        Self { status, code: None, param: None, message: message.into(), is_passing }
    }

    /// Makes the 400 for a field whose value cannot be meant.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message).param(param)
    }

    /// Makes the 400 for a field that OpenAI's API has and this server does not serve yet.
    pub(crate) fn unserved(param: impl Into<String>) -> Self {
        let param = param.into();
        let message = format!("`{param}` is not served yet; leave it out");
        Self::invalid(param, message).code("unsupported_parameter")
    }

    /// Adds what programs tell errors apart by.
    pub(crate) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Adds the field at fault.
    pub(crate) fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says which field is at fault, where one is and that is not known yet.
    pub(crate) fn about(mut self, param: &str) -> Self {
        if self.status == StatusCode::BAD_REQUEST {
            self.param.get_or_insert_with(|| param.to_owned());
        }
        self
    }

    /// Returns the status it is answered with.
    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Writes the envelope as JSON.
    pub(crate) fn envelope(&self) -> Vec<u8> {
        let body = Body {
            message: &self.message,
            r#type: error_type(self.status),
            param: self.param.as_deref(),
            code: self.code,
        };
        json::to_vec(&Envelope { error: body })
    }
}

/// Returns OpenAI's coarse word for a status.
fn error_type(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    }
}

/// The one table from what went wrong to a status and OpenAI's code.
fn status_of(kind: ErrorKind) -> (StatusCode, Option<&'static str>) {
    match kind {
        // What the hub is asked for by name is a model.
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, Some("model_not_found")),
        ErrorKind::InvalidInput => (StatusCode::BAD_REQUEST, Some("invalid_value")),
        // OpenAI answers 400 to a prompt over the context; 413 is for bodies, which never reach a model.
        ErrorKind::TooLarge => (StatusCode::BAD_REQUEST, Some("context_length_exceeded")),
        ErrorKind::Busy => (StatusCode::TOO_MANY_REQUESTS, Some("busy")),
        // Whoever cancelled does not read this; a shutdown does, and another try may meet the next process.
        ErrorKind::Cancelled => (StatusCode::SERVICE_UNAVAILABLE, Some("cancelled")),
        ErrorKind::Denied => (StatusCode::FORBIDDEN, Some("denied")),
        ErrorKind::Unsupported => (StatusCode::BAD_REQUEST, Some("unsupported")),
        ErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Some("unavailable")),
        ErrorKind::Corrupt => (StatusCode::INTERNAL_SERVER_ERROR, Some("corrupt")),
        ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, Some("internal_error")),
    }
}

/// Returns the status that a request is answered with which ends so; `None` is success.
pub(crate) fn status_number(outcome: Option<ErrorKind>) -> u16 {
    outcome.map_or(StatusCode::OK, |kind| status_of(kind).0).as_u16()
}

impl From<hub::Error> for ApiError {
    /// Tells the caller everything that is known: whoever calls owns the hub, or has a key of its owner.
    fn from(error: hub::Error) -> Self {
        let (status, code) = status_of(error.kind());
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = &error as &dyn std::error::Error, "a request failed");
        }
        let param = param_of(&error).map(str::to_owned);
        Self { status, code, param, message: chain(&error), is_passing: error.is_passing() }
    }
}

/// Returns the field at fault, where the error knows it. Options are called in the library as they are on the wire.
fn param_of(error: &hub::Error) -> Option<&'static str> {
    match error {
        hub::Error::Models(hub::models::Error::InvalidOption { name, .. }) => Some(name),
        hub::Error::Models(hub::models::Error::Sampling(invalid)) => Some(invalid.name),
        hub::Error::Router(_) if error.kind() != ErrorKind::TooLarge => Some("model"),
        hub::Error::NoSuchModel { .. } => Some("model"),
        _ => None,
    }
}

/// Writes an error and its causes on one line.
fn chain(error: &hub::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some libraries repeat their cause in their own message.
        let more = error.to_string();
        if !text.contains(&more) {
            // Writing to a string does not fail.
            let _ = write!(text, ": {more}");
        }
        cause = error.source();
    }
    text
}

impl ApiError {
    /// Writes the error as Ollama does.
    pub(crate) fn ollama(&self) -> Vec<u8> {
        json::to_vec(&OllamaError { error: &self.message })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json::response(self.status, self.envelope());
        response.extensions_mut().insert(self.clone());
        if self.is_passing {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_always_has_four_keys() {
        let text = |error: ApiError| String::from_utf8(error.envelope()).unwrap();
        assert_eq!(
            text(ApiError::new(StatusCode::NOT_FOUND, "gone")),
            r#"{"error":{"message":"gone","type":"invalid_request_error","param":null,"code":null}}"#
        );
        let unserved = "`tools` is not served yet; leave it out";
        assert_eq!(
            text(ApiError::unserved("tools")),
            format!(
                r#"{{"error":{{"message":"{unserved}","type":"invalid_request_error","param":"tools","code":"unsupported_parameter"}}}}"#
            )
        );
    }

    #[track_caller]
    fn check(error: hub::models::Error, status: u16, expected: &str) {
        let error = ApiError::from(hub::Error::from(error));
        assert_eq!(error.status().as_u16(), status);
        let text = String::from_utf8(error.envelope()).unwrap();
        assert!(text.contains(expected), "{text} does not contain {expected}");
    }

    #[test]
    fn errors_of_the_library_keep_their_facts() {
        check(hub::models::Error::TooLarge { asked: 9_000, limit: 2_048 }, 400, "context_length_exceeded");
        check(hub::models::Error::TooLarge { asked: 9_000, limit: 2_048 }, 400, "9000");
        check(hub::models::Error::Busy { waiting: 256 }, 429, "rate_limit_error");
        let over = hub::base::Account::new(10).reserve(11).unwrap_err();
        check(hub::models::Error::Memory { what: "weights", source: over }, 503, "11 B");
        let invalid = hub::models::Error::InvalidOption { name: "stop", reason: "is empty".to_owned() };
        check(invalid, 400, r#""param":"stop""#);
    }

    #[test]
    fn overload_says_when_to_try_again() {
        for (status, told) in [(429, true), (503, true), (500, false), (404, false)] {
            let response = ApiError::new(StatusCode::from_u16(status).unwrap(), "").into_response();
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), told, "{status}");
        }
        let over = hub::base::Account::new(10).reserve(11).unwrap_err();
        let never = hub::Error::from(hub::models::Error::Memory { what: "weights", source: over });
        let response = ApiError::from(never).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
    }
}
