use std::sync::Arc;

use axum::extract::FromRef;
use hub::Hub;

use tokio::sync::Semaphore;

use crate::{access::Access, metrics::Metrics};

/// How many large bodies are taken apart at once.
const LARGE_AT_ONCE: usize = 2;

/// What handlers share. A handler asks for the part it needs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AppState {
    /// Everything the server serves.
    pub hub: Hub,
    /// Who may call.
    pub access: Arc<Access>,
    /// What was counted.
    pub metrics: Metrics,
    /// The turns of bodies that take much memory while they are taken apart.
    pub(crate) large_bodies: Arc<Semaphore>,
}

impl AppState {
    /// Puts the parts together, with nothing counted yet.
    pub fn new(hub: Hub, access: Access) -> Self {
        let large_bodies = Arc::new(Semaphore::new(LARGE_AT_ONCE));
        Self { hub, access: Arc::new(access), metrics: Metrics::default(), large_bodies }
    }
}

impl FromRef<AppState> for Hub {
    fn from_ref(state: &AppState) -> Self {
        state.hub.clone()
    }
}

impl FromRef<AppState> for Arc<Access> {
    fn from_ref(state: &AppState) -> Self {
        state.access.clone()
    }
}

impl FromRef<AppState> for Metrics {
    fn from_ref(state: &AppState) -> Self {
        state.metrics.clone()
    }
}
