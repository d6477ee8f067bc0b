//! Weights, tokenizers, model specifications, sequence state and the executors that run them.
