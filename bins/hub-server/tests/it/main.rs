//! Requests against the whole server: most without a socket, those about connections with one.

#![cfg(test)]

mod access;
mod chat;
mod completions;
mod connection;
mod encoders;
mod ollama;
mod ollama_cli;
mod openapi;
mod operations;
mod wire;
mod world;
