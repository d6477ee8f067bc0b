//! Measures how fast a model is.
