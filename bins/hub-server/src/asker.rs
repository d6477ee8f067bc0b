use std::convert::Infallible;

use axum::{
    extract::{FromRequestParts, MatchedPath},
    http::request::Parts,
};

use crate::{access::Caller, error::status_number, trace::RequestId};

/// Who asks and through which operation, as the hub keeps it with the usage of a request.
pub(crate) struct Asker(pub(crate) hub::Caller);

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let endpoint = parts.extensions.get::<MatchedPath>().map_or("unknown", MatchedPath::as_str);
        let mut caller = hub::Caller::new(endpoint).status(status_number);
        if let Some(id) = parts.extensions.get::<RequestId>() {
            caller = caller.request_id(id.as_str());
        }
        let key = parts.extensions.get::<Caller>().and_then(Caller::key_id);
        Ok(Self(caller.key_id(key.map(str::to_owned))))
    }
}
