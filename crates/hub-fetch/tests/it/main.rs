//! Pulls against a server that speaks the protocols of the registries, and lies, breaks and tires as it is told.
#![cfg(test)]

mod address;
mod faults;
mod huggingface;
mod ollama;

use std::path::Path;

use hub_base::CancelToken;
use hub_fetch::{Error, Event, FetchOptions, Fetched, Fetcher};
use hub_fixtures::Registry;

/// A fetcher that knows no other registry than `registry` and writes below `home`.
fn fetcher(home: &Path, registry: &Registry, change: impl FnOnce(&mut FetchOptions)) -> Fetcher {
    let mut options = FetchOptions::new(home.join("models"));
    options.hf_cache = home.join("hf/hub");
    options.hf_endpoint = registry.url();
    options.ollama_registry = registry.url();
    change(&mut options);
    Fetcher::new(options)
}

fn pull(fetcher: &Fetcher, source: &str) -> Result<Fetched, Error> {
    let cancel = CancelToken::new();
    let plan = fetcher.plan(&source.parse()?, &cancel)?;
    fetcher.fetch(&plan, &|_: Event<'_>| {}, &cancel)
}

/// Bytes that repeat nowhere near.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        // xorshift64: Marsaglia 2003, <https://doi.org/10.18637/jss.v008.i14>.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}
