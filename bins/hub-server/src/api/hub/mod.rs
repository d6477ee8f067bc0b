//! The hub's own API.

mod models;
mod ps;

use axum::Router;

use crate::state::AppState;

pub(super) fn routes() -> Router<AppState> {
    Router::new().merge(models::routes()).merge(ps::routes())
}
