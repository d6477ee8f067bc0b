use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use tracing::Instrument;

use crate::{error::ApiError, metrics::Metrics};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id of a request that is taken from its caller.
const MAX_ID_BYTES: usize = 128;

/// Names a request in its answer, in logs and in usage rows.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(Arc<str>);

impl RequestId {
    /// Returns the id as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes the caller's id if it is safe in a header and a log line, else makes one.
    fn of(request: &Request) -> Self {
        let is_safe = |id: &&str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
            (1..=MAX_ID_BYTES).contains(&id.len()) && id.chars().all(allowed)
        };
        let given = request.headers().get(X_REQUEST_ID).and_then(|id| id.to_str().ok()).filter(is_safe);
        Self(given.map_or_else(|| new_id("req_").into(), Into::into))
    }
}

/// Makes an id that no other answer has: the time in microseconds, and a number that counts up.
pub(crate) fn new_id(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed) & 0xff_ffff;
    format!("{prefix}{:014x}{count:06x}", since.as_micros())
}

/// Gives a request its id and its span, counts it, and turns a panic of its handler into a 500.
pub(crate) async fn observe(State(metrics): State<Metrics>, mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let id = RequestId::of(&request);
    let path = request.extensions().get::<MatchedPath>().cloned();
    // The path of no route is the caller's text: it is neither logged nor counted by name.
    let route = path.as_ref().map_or("unknown", MatchedPath::as_str);
    let span = tracing::info_span!("http.request", id = id.as_str(), method = %request.method(), route);
    request.extensions_mut().insert(id.clone());
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let mut response = answered.unwrap_or_else(|_| {
        span.in_scope(|| tracing::error!("a handler panicked"));
        let message = "the server met a defect of its own; its log has more under this request's id";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message).code("internal_error").into_response()
    });
    metrics.answered(route, response.status(), start.elapsed());
    span.in_scope(
        || tracing::debug!(status = response.status().as_u16(), elapsed = ?start.elapsed(), "answered"),
    );
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[track_caller]
    fn check(id: &str, taken: bool) {
        let request = Request::builder().header("x-request-id", id).body(Body::empty()).unwrap();
        assert_eq!(RequestId::of(&request).as_str() == id, taken, "{id:?}");
    }

    #[test]
    fn only_safe_ids_are_taken_from_callers() {
        check("3f2a-b.c:d_e", true);
        check(&"x".repeat(128), true);
        check(&"x".repeat(129), false);
        check("", false);
        check("a b", false);
        check("a\"b", false);
    }

    #[test]
    fn ids_differ() {
        assert_ne!(new_id("req_"), new_id("req_"));
    }
}
