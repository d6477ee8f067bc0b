use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, BodyDataStream},
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use futures_util::StreamExt;

use crate::{error::ApiError, fields::Fields, state::AppState};

/// The largest body that is read. The longest contexts of today fit several times.
const MAX_BYTES: usize = 8 << 20;

/// How much of a body that is too large is still taken from the wire and thrown away. Most clients send all of it
/// before they read the answer; one that is cut off would never learn why.
const MAX_DRAINED_BYTES: usize = 256 << 20;

/// How long the next piece of a body may take, and all of them together.
const MAX_PAUSE: Duration = Duration::from_secs(60);
const MAX_TIME: Duration = Duration::from_secs(300);

/// A body of more bytes is taken apart while few others are: its values take ten times its memory.
const LARGE_BYTES: usize = 256 << 10;

/// The JSON object in the body of a request, whatever its `content-type` says.
pub(crate) struct JsonBody(pub(crate) Fields);

impl FromRequest<AppState> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = tokio::time::timeout(MAX_TIME, read(&parts.headers, body)).await;
        let bytes = bytes.unwrap_or_else(|_| Err(too_slow()))?;
        if bytes.len() <= LARGE_BYTES {
            return Fields::parse(&bytes).map(Self);
        }
        let turn = Arc::clone(&state.large_bodies).acquire_owned().await;
        // Never closed, so there is always a turn.
        let turn =
            turn.map_err(|_| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping"))?;
        Fields::parse(&bytes).map(|fields| Self(fields.during(turn)))
    }
}

/// Reads a whole body into memory, if it is not too large.
async fn read(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let mut pieces = body.into_data_stream();
    if announced.is_some_and(|length: usize| length > MAX_BYTES) {
        // Whoever waits for a go-ahead has sent nothing yet, and reading would be one. What is far too large to be
        // thrown away whole is not begun with.
        let is_bearable = announced.is_some_and(|length| length <= MAX_DRAINED_BYTES);
        if is_bearable && !headers.contains_key(header::EXPECT) {
            drain(&mut pieces).await;
        }
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(announced.unwrap_or(0));
    while let Some(piece) = next(&mut pieces).await? {
        if bytes.len() + piece.len() > MAX_BYTES {
            // What was kept is of no use now.
            drop(bytes);
            drain(&mut pieces).await;
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Throws away what is still on its way, within limits.
async fn drain(pieces: &mut BodyDataStream) {
    let mut drained = 0;
    while drained < MAX_DRAINED_BYTES
        && let Ok(Some(piece)) = next(pieces).await
    {
        drained += piece.len();
    }
}

async fn next(pieces: &mut BodyDataStream) -> Result<Option<axum::body::Bytes>, ApiError> {
    let piece = tokio::time::timeout(MAX_PAUSE, pieces.next());
    match piece.await {
        Ok(piece) => piece.transpose().map_err(|_| {
            ApiError::new(StatusCode::BAD_REQUEST, "the body ended before its announced length")
        }),
        Err(_) => Err(too_slow()),
    }
}

fn too_slow() -> ApiError {
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body took too long to arrive").code("timeout")
}

fn too_large() -> ApiError {
    let message = format!("the body is larger than {} MiB", MAX_BYTES >> 20);
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message).code("request_too_large")
}
