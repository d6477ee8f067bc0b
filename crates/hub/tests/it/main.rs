//! The hub as a library user sees it.

mod config;
mod hub;
