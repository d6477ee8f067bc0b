//! What the hub remembers: models, keys and usage, as rows.
