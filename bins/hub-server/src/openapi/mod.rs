//! The description of every operation, made from the code that reads and writes it.
//!
//! An [`Operation`] is registered once: its route and its section of the document come from the same value. What it
//! reads is noted while its own parser takes its examples apart; what it writes is the type that is serialised.

mod document;
mod meanings;
mod operation;
mod schema;
#[cfg(test)]
mod tests;

pub(crate) use document::write;
pub(crate) use meanings::meaning;
pub(crate) use operation::{Answers, Body, Example, Fails, Group, Operation, Verb};
pub(crate) use schema::inline;
