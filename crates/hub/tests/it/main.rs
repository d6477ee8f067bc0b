//! The hub as a library user sees it.
#![cfg(test)]

mod config;
mod hub;
