//! Programs that show the crates at work: `cargo ex chat`, `cargo ex embed_search`, `cargo ex route_table`.
