//! The integration tests of hub-models: one binary, so that candle is linked once.

mod parity;
mod templates;
