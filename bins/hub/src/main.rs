//! The hub command.
fn main() {}
