//! Which models are in memory.
//!
//! What to evict is a decision without a clock, a thread or a device: [`cheapest`] takes what each model would cost to lose, and
//! [`Forecast`] says that of the requests so far. So both run alike under a server and on a [`Trace`] of requests, where
//! [`simulate()`] compares them with other rules and [`optimum`] with what nobody could do better.
//!
//! ```
//! use hub_pool::{Policy, Trace, generate, optimum, simulate};
//!
//! let day: Trace = generate::mixed_day(1);
//! let ours = simulate(&day, Policy::Forecast);
//! let best = optimum(&day)?;
//! assert!(ours.load_s >= best && ours.load_s < simulate(&day, Policy::LeastRecentlyUsed).load_s);
//! # Ok::<(), hub_pool::Error>(())
//! ```

mod compare;
mod error;
mod forecast;
pub mod generate;
mod optimum;
mod plan;
mod simulate;
mod trace;

pub use compare::{Comparison, RuleOutcome, compare};
pub use error::Error;
pub use forecast::Forecast;
pub use optimum::optimum;
pub use plan::{Candidate, cheapest};
pub use simulate::{Outcome, Policy, simulate};
pub use trace::{Request, Trace, TracedModel};
