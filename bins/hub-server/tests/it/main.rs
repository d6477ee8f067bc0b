//! Requests against the whole server: most without a socket, those about connections with one.

mod access;
mod chat;
mod completions;
mod connection;
mod encoders;
mod operations;
mod wire;
mod world;
