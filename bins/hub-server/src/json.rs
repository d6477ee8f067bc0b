use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde::Serialize;

/// Writes `value` as JSON.
pub(crate) fn to_vec(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    write(&mut bytes, value);
    bytes
}

/// Appends `value` as JSON.
pub(crate) fn write(bytes: &mut Vec<u8>, value: &impl Serialize) {
    // Writing to memory does not fail, and every wire type is a struct with text keys.
    serde_json::to_writer(bytes, value).expect("wire types are plain structs");
}

/// Answers with JSON that is already written.
pub(crate) fn response(status: StatusCode, json: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
