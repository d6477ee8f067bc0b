//! Benchmarks: `cargo bench -p hub-benches`. What a model reaches on this machine is `hub bench MODEL`.
