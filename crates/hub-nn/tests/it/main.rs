//! Integration tests of hub-nn.

mod corrupt;
mod executor;
mod llama_cpp;
mod tokens;
mod weights;
