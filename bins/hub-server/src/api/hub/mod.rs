//! The hub's own API.

mod ps;

use axum::Router;

use crate::state::AppState;

pub(super) fn routes() -> Router<AppState> {
    Router::new().merge(ps::routes())
}
