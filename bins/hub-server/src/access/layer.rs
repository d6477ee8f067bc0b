use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use hub::{Hub, now_ms};

use super::{
    Access,
    caller::{Caller, KeyPolicy, secret_of},
};
use crate::{error::ApiError, state::AppState};

/// Operations that answer without a key: they tell nothing of what is said here.
const OPEN: [&str; 6] = ["/health", "/ready", "/metrics", "/openapi.json", "/docs", "/docs/{file}"];

/// Tells whether the operation at a path answers without a key.
pub(crate) fn is_open(path: &str) -> bool {
    OPEN.contains(&path)
}

/// How every key of ours begins. What clients send in its place ("sk-…", "none") needs no look at the store.
const KEY_PREFIX: &str = "hub_";

/// Headers of ours that a page may read.
const EXPOSED: HeaderValue = HeaderValue::from_static("x-request-id, x-hub-model, x-hub-route, retry-after");

/// Asked and answered by browsers when a page of a public site calls a private address.
const ASKS_PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOWS_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// Lets a request in if its key, or the lack of one, allows it, and notes who sent it.
///
/// It wraps every route, so that a new one cannot forget it.
pub(crate) async fn authenticate(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let is_open = path.is_some_and(is_open);
    let found =
        if is_open { Ok(Caller::Owner) } else { caller(&state.access, &state.hub, request.headers()).await };
    match found {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

async fn caller(access: &Access, hub: &Hub, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let refuse =
        |message: &str| Err(ApiError::new(StatusCode::UNAUTHORIZED, message).code("invalid_api_key"));
    let found = match secret_of(headers).filter(|secret| secret.starts_with(KEY_PREFIX)) {
        Some(secret) => {
            let key = hub.store().keys().verify(secret, now_ms()).await.map_err(hub::Error::from)?;
            key.map(|key| Caller::Key(key.id))
        }
        None => None,
    };
    let secret = secret_of(headers);
    // One of ours that does not hold is refused everywhere, or revoking it would change nothing.
    let is_ours = secret.is_some_and(|secret| secret.starts_with(KEY_PREFIX));
    match (found, access.keys) {
        (Some(caller), _) => Ok(caller),
        (None, KeyPolicy::Optional) if !is_ours => Ok(Caller::Owner),
        (None, _) if secret.is_some() => {
            refuse("this API key is unknown or revoked; `hub keys create` makes one")
        }
        (None, KeyPolicy::Optional) => Ok(Caller::Owner),
        (None, KeyPolicy::Required) => {
            refuse("an API key is needed: send `Authorization: Bearer hub_…`; `hub keys create` makes one")
        }
    }
}

/// Keeps pages of other sites out (DNS rebinding, cross-site requests) and lets allowed ones in (CORS).
pub(crate) async fn guard_browser(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let hosts: Vec<&str> = match hosts(&request) {
        Ok(hosts) => hosts,
        Err(error) => return error.into_response(),
    };
    if let Some(host) = hosts.iter().find(|host| !access.serves_host(host)) {
        let message = format!("{host:?} is not a name of this server; add its origin to `[server] origins`");
        return ApiError::new(StatusCode::FORBIDDEN, message).code("host_not_allowed").into_response();
    }
    let host = hosts.first().copied();
    let Some(origin) = headers.get(header::ORIGIN).cloned() else { return next.run(request).await };
    if !origin.to_str().is_ok_and(|origin| access.allows_origin(origin, host)) {
        let message = format!("pages from {origin:?} may not call this server; add it to `[server] origins`");
        // Browsers keep the answer from the page, so whoever wrote it looks here.
        tracing::warn!("refused: {message}");
        return ApiError::new(StatusCode::FORBIDDEN, message).code("origin_not_allowed").into_response();
    }
    let is_preflight =
        request.method() == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if is_preflight { preflight(headers) } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    response
}

/// Returns the names a request calls this server by: its `Host`, and the one in its target where that is a whole URL.
/// A request without either comes from no browser.
///
/// # Errors
/// 400 for several `Host` headers, of which a proxy may have read another than we would.
fn hosts(request: &Request) -> Result<Vec<&str>, ApiError> {
    let mut headers = request.headers().get_all(header::HOST).iter();
    let header = headers.next();
    if headers.next().is_some() {
        let message = "the request names several hosts";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, message).code("invalid_host"));
    }
    // A host that is no text is nobody's name.
    let header = header.map(|host| host.to_str().unwrap_or_default());
    Ok(header.into_iter().chain(request.uri().authority().map(|authority| authority.as_str())).collect())
}

/// Answers a browser that asks before it sends: every method, and the headers it named.
fn preflight(asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    if let Some(named) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, named.clone());
    }
    if asked.contains_key(ASKS_PRIVATE) {
        headers.insert(ALLOWS_PRIVATE, HeaderValue::from_static("true"));
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}
