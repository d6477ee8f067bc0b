//! The integration tests of hub-models: one binary, so that candle is linked once.
#![cfg(test)]

mod convert;
mod encoders;
mod folders;
mod gguf;
mod mistral_own;
mod packed;
mod parity;
mod templates;
mod text;
