//! Weights, tokenizers, model specifications, sequence state and the executors that run them.
//!
//! A model is data: a [`spec::ModelSpec`] says what its layers are and where in its files each tensor lies. An
//! [`executor::Executor`] reads those tensors from [`weights::Weights`] and computes; a [`state::SequenceState`] says
//! what a sequence left behind. Nothing here knows a family, a prompt or a socket.

pub mod device;
mod error;
pub mod executor;
mod os;
pub mod spec;
pub mod state;
pub mod tokens;
pub mod weights;
pub mod worker;

pub use device::{Device, Gate, Pass, Priority};
pub use error::Error;
