//! Which model answers a request: a pure function with its reasons.
//!
//! [`Router::decide`] takes what is asked and what is installed and returns an ordered list of candidates, each with
//! the reason for its place, and what was left out and why. It holds no model, reads no clock and does no I/O, so a
//! decision can be replayed from a log and shown without being carried out.
//!
//! ```
//! use hub_base::{ModelId, Task};
//! use hub_router::{Request, Router, RouterOptions, Target};
//!
//! let options = RouterOptions::default().alias("gpt-4o-mini", ["qwen3-8b", "auto"]);
//! let router = Router::new(options)?;
//! let guide = Target {
//!     name: ModelId::new("hub-guide")?,
//!     tasks: vec![Task::Chat],
//!     context_tokens: 2_048,
//!     bytes: 8_000_000,
//!     is_loaded: false,
//!     is_builtin: true,
//! };
//! let request = Request { model: "gpt-4o-mini", task: Task::Chat, prompt_tokens: 120, max_tokens: Some(64) };
//!
//! let decision = router.decide(&request, &[guide])?;
//! assert_eq!(decision.candidates[0].model.as_str(), "hub-guide");
//! assert_eq!(decision.rejected[0].reason, "not installed");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod decision;
mod draft;
mod error;
mod options;
mod request;
mod router;
mod rules;
mod target;

pub use decision::{Candidate, Decision, Rejection};
pub use error::{Error, Result};
pub use options::{OneOrMany, RouterOptions};
pub use request::{AUTO, Request};
pub use router::Router;
pub use target::Target;
