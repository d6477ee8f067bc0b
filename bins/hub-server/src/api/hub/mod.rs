//! The hub's own API.

mod models;
mod ps;

use crate::openapi::Operation;

pub(super) static OPERATIONS: &[&Operation] = &[&models::PULL, &ps::LIST];
