//! HTTP: everything between a connection and the areas that do the work.
//!
//! A surface is a [`front`] over handlers. The front decides in this order, so that no later
//! check tells anything about what an earlier one would have refused:
//!
//! 1. path and method: 404, 405, or 307 to the path without the slashes at its end;
//! 2. the rate of the address, where no tenant is known: 429;
//! 3. size: 413, declared or sent;
//! 4. the token: 401;
//! 5. the rate of the tenant, and answers in the making: 429;
//! 6. the body as JSON and then its fields, in [`extract`]: 422;
//! 7. what the token allows, in the handler: 403.
//!
//! Handlers give an [`error::ApiError`]; the front writes it in the surface's [`dialect`].

pub mod cors;
pub mod dialect;
pub mod error;
pub mod extract;
pub mod front;
pub mod graph;
pub mod json;
pub mod limits;
pub mod multipart;
pub mod openapi;
pub mod pages;
pub mod rate_limit;
pub mod request_id;
pub mod routes;
pub mod sse;
pub mod starting;
pub mod validate;

use axum::Router;

use crate::app::App;

/// Everything the main port serves.
pub fn router(app: App) -> Router {
    graph::router(app)
}
