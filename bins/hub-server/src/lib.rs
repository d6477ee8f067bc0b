//! The hub over HTTP: the OpenAI API and the hub's own.
//!
//! `/openapi.json` describes every operation, and `/docs` shows it.
//!
//! [`app`] is everything but the socket, so that it can be tested, or served by another program, without one.
//! [`Server`] adds the address of the hub's settings, and [`serve`] the signals that stop a program:
//!
//! ```no_run
//! use hub::{Hub, HubConfig};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let hub = Hub::open(HubConfig::default(), "/var/lib/hub".as_ref()).await?;
//! let lock = hub.home().lock()?;
//! hub_server::serve(hub.clone(), |server| println!("listening on {}", server.url())).await?;
//! hub.shutdown(std::time::Duration::from_secs(1)).await;
//! # drop(lock);
//! # Ok(())
//! # }
//! ```

mod access;
mod answer;
mod api;
mod asker;
mod body;
mod connections;
mod error;
mod fields;
mod json;
mod metrics;
mod openapi;
mod os;
mod pulling;
mod server;
mod socket;
mod sse;
mod state;
mod trace;

pub use access::Access;
pub use metrics::Metrics;
pub use server::{Error, Server, serve};
pub use state::AppState;

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
};

/// Builds every operation and what wraps them: the last layer is the first to see a request.
pub fn app(state: AppState) -> Router {
    api::routes()
        .layer(from_fn_with_state(state.clone(), access::authenticate))
        .layer(from_fn_with_state(state.access.clone(), access::guard_browser))
        .layer(from_fn(api::speak_ollama))
        .layer(from_fn_with_state(state.metrics.clone(), trace::observe))
        .with_state(state)
}
