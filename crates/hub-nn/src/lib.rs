//! Weights, tokenizers, model specifications, sequence state and the executors that run them.
//!
//! A model is data: a [`spec::ModelSpec`] says what its layers are and where in its files each tensor lies. An
//! [`executor::Executor`] reads those tensors from [`weights::Weights`] and computes; a [`state::SequenceState`] says
//! what a sequence left behind. Nothing here knows a family, a prompt or a socket.
//!
//! ```
//! use hub_nn::{
//!     tokens::{AddSpecial, SkipSpecial, Tokenizer},
//!     weights::Weights,
//! };
//!
//! # let folder = hub_fixtures::tiny_model("llama");
//! # let folder = folder.path();
//! let weights = Weights::open(folder)?;
//! let table = weights.info("model.embed_tokens.weight").map(|info| info.shape.as_slice());
//! assert_eq!(table, Some([384, 64].as_slice()));
//!
//! let tokenizer = Tokenizer::open(&folder.join("tokenizer.json"))?;
//! let ids = tokenizer.encode("Xin chào", AddSpecial::No)?;
//! assert_eq!(tokenizer.decode(&ids, SkipSpecial::Yes), "Xin chào");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `ModelParts` of `hub-models` reads the specification from the files and shows an executor at work.
//!
//! Features, all off by default: `cuda` and `metal` run models on graphics cards through candle.

pub mod device;
mod error;
pub mod executor;
pub mod ops;
mod os;
mod side_file;
pub mod spec;
pub mod state;
pub mod tokens;
pub mod weights;
pub mod worker;

pub use device::{Device, DeviceOptions, Gate, Pass, Priority};
pub use error::Error;
pub use hub_kernels::Isa;
pub use side_file::{MAX_CONFIGURATION, MAX_VOCABULARY, read_side_file};
