//! Which model answers a request: a pure function with its reasons.
