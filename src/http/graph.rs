//! The graph surface: nodes, edges, search, answers, and the care of them.

mod access;
mod ask;
mod audit;
mod backup;
mod connectors;
mod db;
mod debug;
mod edges;
mod embedding;
mod extraction;
mod failure;
mod indexes;
mod mcp;
mod models;
mod nodes;
mod openai;
mod operator;
mod queues;
mod search;
mod service;
mod survey;
pub mod table;
mod triggers;
mod upkeep;
mod upload;
mod walks;
mod webhooks;
pub mod wire;
mod workers;

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use axum::routing::{delete, get, patch, post, put};

use crate::app::App;
use crate::auth::Caller;
use crate::http::cors::Cors;
use crate::http::error::ApiError;
use crate::http::front::{self, FrontSettings, Gate};
use crate::http::pages;
use crate::http::rate_limit::RateLimiter;
use crate::observability::metrics::RateLimited;

/// The whole surface, behind its front.
pub fn router(app: App) -> Router {
    let limits = &app.config.limits;
    let settings = FrontSettings {
        max_request_bytes: limits.max_request_bytes,
        real_ip_header: limits.real_ip_header.clone(),
        rates: limits.rates.map(RateLimiter::new),
        cors: Cors::new(&app.config.cors),
        dialect: table::dialect,
    };
    let handlers = Router::new()
        .route("/health", get(service::health))
        .route("/readyz", get(service::ready))
        .route("/metrics", get(service::metrics))
        .route("/prometheus", get(service::prometheus))
        .route("/openapi.json", get(pages::openapi))
        .route("/docs", get(pages::docs))
        .route("/redoc", get(pages::docs))
        .route("/demo", get(pages::demo))
        .route("/nodes", post(nodes::create).get(nodes::list))
        .route("/nodes/batch", post(nodes::create_batch))
        .route("/nodes/by-external-id", get(nodes::by_external_id))
        .route("/nodes/{id}", get(nodes::get))
        .route("/nodes/{id}", put(nodes::put))
        .route("/nodes/{id}", delete(nodes::delete))
        .route("/nodes/{id}/refresh", post(nodes::refresh))
        .route("/nodes/{id}/versions", get(nodes::versions))
        .route("/edges", post(edges::create))
        .route("/lineage/{id}", get(edges::lineage))
        .route("/events", get(edges::events))
        .route("/triggers", post(triggers::register).get(triggers::list))
        .route("/triggers/{name}", delete(triggers::delete))
        .route("/upload", post(upload::upload))
        .route("/graph/neighbors", get(walks::neighbors))
        .route("/graph/path", get(walks::path))
        .route("/graph/subgraph", get(walks::subgraph))
        .route("/search", post(search::search))
        .route("/ask", post(ask::ask))
        .route("/ask/stream", post(ask::ask_stream))
        .route("/mcp", post(mcp::serve))
        .route("/v1/models", get(openai::models))
        .route("/v1/embeddings", post(openai::embeddings::create))
        .route("/v1/chat/completions", post(openai::chat::complete))
        .route("/admin/embedding/status", get(embedding::status))
        .route("/admin/embedding/requeue", post(embedding::requeue))
        .route("/admin/extraction/status", get(extraction::status))
        .route("/admin/extraction/requeue", post(extraction::requeue))
        .route("/admin/refresh", post(upkeep::refresh))
        .route("/admin/anomalies", get(upkeep::anomalies))
        .route("/admin/backup", post(backup::create))
        .route("/admin/backups", get(backup::list))
        .route("/admin/backups/{name}/verify", post(backup::verify))
        .route("/admin/model", get(models::show))
        .route("/admin/model/change", post(models::begin).delete(models::drop_other))
        .route("/admin/model/compare", post(models::compare))
        .route("/admin/model/switch", post(models::switch))
        .route("/admin/model/roll-back", post(models::roll_back))
        .route("/admin/indexes", get(indexes::list).post(indexes::change))
        .route("/admin/migrate", post(indexes::migrate))
        .route("/admin/db_status", get(indexes::db_status))
        .route("/admin/queues", get(queues::list))
        .route("/admin/queues/{queue}", get(queues::show))
        .route("/admin/queues/{queue}/items", get(queues::items).delete(queues::purge))
        .route("/admin/queues/{queue}/pause", post(queues::pause))
        .route("/admin/queues/{queue}/resume", post(queues::resume))
        .route("/admin/queues/{queue}/dead", get(queues::dead).delete(queues::clear))
        .route("/admin/queues/{queue}/dead/replay", post(queues::replay))
        .route("/debug/dbinfo", get(debug::dbinfo))
        .route("/debug/embed_info", get(embedding::info))
        .route("/debug/intent", get(debug::intent))
        .route("/debug/search_sanity", get(debug::search_sanity))
        .route("/debug/search_explain", post(search::explain).get(search::explain_query))
        .route("/_admin/embed_info", get(embedding::info))
        .route("/_admin/embed_class_coverage", get(survey::class_coverage))
        .route("/_admin/drift_histogram", get(survey::drift_histogram))
        .route("/_admin/metrics/retrieval_uplift", post(survey::retrieval_uplift))
        .route("/_admin/audit", get(audit::list))
        .route("/_admin/workers", get(workers::show))
        .route("/_admin/workers/{queue}/scale", post(workers::scale))
        .route("/_admin/workers/{queue}/restart", post(workers::restart))
        .route("/_admin/metrics_summary", get(upkeep::metrics_summary))
        .route("/_admin/security/limits", get(service::limits))
        .route("/_admin/config", get(operator::config))
        .route("/_admin/stats/ingest", get(operator::ingest))
        .route("/_admin/stats/deleted", get(operator::deleted))
        .route("/_admin/db/check", post(db::check))
        .route("/_admin/db/stats", get(db::stats))
        .route("/_admin/db/activity", get(db::activity))
        .route("/_admin/connectors", get(connectors::list))
        .route("/_admin/connectors/", get(connectors::list))
        .route("/_admin/connectors/keys", get(connectors::key_status))
        .route("/_admin/connectors/rotate_keys", post(connectors::rotate))
        .route("/_admin/connectors/purge_deleted", post(connectors::purge))
        .route("/_admin/connectors/purge_receipts", get(connectors::receipts))
        .route("/_admin/connectors/cache/health", get(connectors::cache_health))
        .route("/_admin/connectors/cache/flush", post(connectors::flush_cache))
        .route("/_admin/connectors/{provider}", get(connectors::show))
        .route("/_admin/connectors/{provider}/register", post(connectors::register))
        .route("/_admin/connectors/{provider}/config", patch(connectors::update))
        .route("/_admin/connectors/{provider}/config", delete(connectors::delete))
        .route("/_admin/connectors/{provider}/test", post(connectors::try_out))
        .route("/_admin/connectors/{provider}/enable", post(connectors::enable))
        .route("/_admin/connectors/{provider}/disable", post(connectors::disable))
        .route("/_webhooks/s3", post(webhooks::s3))
        .route("/_webhooks/s3/health", get(webhooks::health))
        .route("/_webhooks/gcs", post(webhooks::gcs))
        .route("/_webhooks/gcs/health", get(webhooks::health))
        .route("/_admin/connectors/{provider}/ingest", post(connectors::ingest))
        .route("/_admin/connectors/{provider}/backfill", post(connectors::backfill))
        .route("/_admin/connectors/{provider}/queue-status", get(connectors::status))
        .route("/_admin/connectors/{provider}/queue", get(connectors::peek))
        .route("/_admin/connectors/{provider}/queue", delete(connectors::drop_waiting))
        .route("/_admin/connectors/{provider}/cursor", get(connectors::cursor))
        .route("/_admin/connectors/dlq/inspect/{provider}/{tenant}", get(connectors::inspect))
        .route("/_admin/connectors/dlq/replay/{provider}/{tenant}", post(connectors::replay))
        .route("/_admin/connectors/dlq/clear/{provider}/{tenant}", post(connectors::clear))
        .with_state(app.clone());
    front::surface(Tokens { app }, settings, &table::ROUTES, handlers)
}

/// Finds the caller of a request by its token, and counts what goes wrong.
struct Tokens {
    app: App,
}

impl Gate for Tokens {
    type Caller = Caller;

    fn caller(&self, parts: &Parts) -> Result<Caller, ApiError> {
        if front::is_local(parts) {
            return Ok(self.app.authenticator.administrator());
        }
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let now = self.app.clock.now().get().div_euclid(1_000_000);
        self.app.authenticator.authenticate(header, now).map_err(|error| {
            if let Some(violation) = error.violation {
                self.app.metrics.http.violation(violation);
            }
            error.into()
        })
    }

    fn tenant<'a>(&self, caller: &'a Caller) -> Option<&'a str> {
        caller.authenticated.then(|| caller.tenant.as_str())
    }

    fn limited(&self, path: &'static str, limit: RateLimited) {
        self.app.metrics.http.rate_limited(limited_as(path), limit);
    }

    fn answered(&self, path: Option<&'static str>, status: StatusCode, _took: Duration) {
        if status.is_client_error() || status.is_server_error() {
            self.app.metrics.http.error(path, status.as_u16());
        }
    }
}

/// What a limited route is called where limits are counted: alerts know webhooks by these names.
fn limited_as(path: &'static str) -> &'static str {
    match path {
        "/_webhooks/s3" => "webhook_s3",
        "/_webhooks/gcs" => "webhook_gcs",
        path => path,
    }
}
