//! Integration tests of hub-nn.

mod corrupt;
mod executor;
mod weights;
