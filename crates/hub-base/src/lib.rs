//! What every crate of the hub shares, and nothing that does anything.
//!
//! A type lives here only when three crates need it: the kinds of error a frontend can tell apart, names that were
//! checked once, a flag that stops long work, a sink for its progress, the one counter of memory, sizes as people
//! read them, and how the files of a model in parts are called.
//!
//! ```
//! use hub_base::Account;
//!
//! let account = Account::new(1_000);
//! let weights = account.reserve(800)?;
//! assert!(account.reserve(300).is_err(), "the budget holds 200 more bytes");
//! drop(weights);
//! assert_eq!(account.used_bytes(), 0);
//! # Ok::<(), hub_base::OverBudget>(())
//! ```
//!
//! Features: `schema` adds JSON Schemas of the types that are serialised.

mod account;
mod cancel;
mod kind;
mod name;
mod progress;
mod shard;
mod size;
mod task;

pub use account::{Account, OverBudget, Reservation};
pub use cancel::CancelToken;
pub use kind::ErrorKind;
pub use name::{InvalidName, ModelId};
pub use progress::{Progress, ProgressSink};
pub use shard::whole_of_shard;
pub use size::Size;
pub use task::Task;
