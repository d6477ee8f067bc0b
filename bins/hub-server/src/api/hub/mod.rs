//! The hub's own API.

mod memory;
mod models;
mod ps;

use crate::openapi::Operation;

pub(super) static OPERATIONS: &[&Operation] = &[&models::PULL, &memory::LOAD, &memory::UNLOAD, &ps::LIST];
