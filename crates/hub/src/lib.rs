//! The whole hub behind one type: opens every part from one configuration.
