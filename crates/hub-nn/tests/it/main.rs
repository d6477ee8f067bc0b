//! Model files, tokenizers and executors, against what other programs make of the same.
#![cfg(test)]

mod allocations;
mod corrupt;
mod executor;
mod folders;
mod llama_cpp;
mod packed;
mod quantize;
mod tekken;
mod tokens;
mod weights;
