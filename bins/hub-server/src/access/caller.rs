use axum::http::{HeaderMap, header};

/// Who sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A program on the owner's machine, without a key of ours.
    Owner,
    /// The holder of the key with this id.
    Key(String),
}

/// Whether a call needs a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyPolicy {
    /// A call without a key of ours comes from the owner. Clients that insist on sending some key may send any.
    Optional,
    /// A call without a key of ours is refused.
    Required,
}

impl Caller {
    /// Returns the id of the key, if the caller has one.
    pub(crate) fn key_id(&self) -> Option<&str> {
        match self {
            Self::Owner => None,
            Self::Key(id) => Some(id),
        }
    }
}

/// Where clients put a key: `x-api-key` Anthropic's, `api-key` Azure's.
pub(crate) const KEY_HEADERS: [&str; 2] = ["x-api-key", "api-key"];

/// Returns the secret that a request carries: `Authorization: Bearer`, or a header of its own.
pub(super) fn secret_of(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, secret) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(secret.trim())
    });
    let own = || KEY_HEADERS.into_iter().find_map(|name| headers.get(name)?.to_str().ok());
    bearer.or_else(own).filter(|secret| !secret.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &'static str, value: &'static str, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(name, axum::http::HeaderValue::from_static(value));
        assert_eq!(secret_of(&headers), expected);
    }

    #[test]
    fn a_secret_comes_in_any_of_the_headers() {
        check("authorization", "Bearer hub_1", Some("hub_1"));
        check("authorization", "bearer  hub_1", Some("hub_1"));
        check("authorization", "Basic aHVi", None);
        check("authorization", "Bearer ", None);
        check("x-api-key", "hub_1", Some("hub_1"));
        check("api-key", "hub_1", Some("hub_1"));
    }
}
