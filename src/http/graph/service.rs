//! The service itself: is it alive, is it ready, what does it measure.

use activekg_index::{Engine, EngineState};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::access::Who;
use crate::app::App;
use crate::auth::Access;
use crate::auth::tenancy::OpenTenant;
use crate::http::dialect::{JSON, PLAIN};
use crate::http::error::ApiError;
use crate::http::extract::Reply;
use crate::http::json;
use crate::timestamp::iso;

/// GET /health. Being alive is being able to answer this; `/readyz` says whether all is well.
pub(super) async fn health(State(app): State<App>) -> Reply<Value> {
    let store = if app.graph.store().read().is_ok() { "ok" } else { "error" };
    let writer = app.ask.writer_name();
    let connector_workers = app.connector_workers.counts();
    Reply(json!({
        "status": "ok",
        "timestamp": iso(app.clock.now().get()),
        "version": app.config.server.version,
        "uptime_seconds": app.started.elapsed().as_secs_f64(),
        "components": {
            "db": { "status": store },
            "workers": {
                "connector": {
                    "running": connector_workers.running(),
                    "busy": connector_workers.busy(),
                },
            },
        },
        "llm_backend": writer.as_ref().map(|writer| writer.backend),
        "llm_model": writer.as_ref().and_then(|writer| writer.model.as_deref()),
    }))
}

/// GET /readyz.
pub(super) async fn ready(State(app): State<App>) -> Response {
    let problems = app.problems();
    let (status, body) = if problems.is_empty() {
        let mut body = json!({ "status": "ready" });
        // Searches do without an index until it stands: worth a note, not a refusal.
        let building: Vec<Value> =
            app.vector_indexes.states().into_iter().filter_map(building).collect();
        if !building.is_empty() {
            body["vector_indexes"] = building.into();
        }
        (StatusCode::OK, body)
    } else {
        let degraded = app.graph.store().fault().is_some();
        let status = if degraded { "degraded" } else { "not_ready" };
        let body = json!({ "status": status, "problems": problems });
        (StatusCode::SERVICE_UNAVAILABLE, body)
    };
    (status, [(CONTENT_TYPE, JSON)], Body::from(json::to_vec(&body))).into_response()
}

/// How far the building of a vector index is.
fn building((engine, state): (Engine, EngineState)) -> Option<Value> {
    let EngineState::Building { done, total, serving: _ } = state else { return None };
    let name = engine.as_str();
    Some(json!({ "type": name, "state": "building", "done": done, "total": total }))
}

/// GET /metrics: JSON, or Prometheus text for those who ask for it.
pub(super) async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let accepts = |kind: &str| {
        headers.get_all(ACCEPT).iter().any(|value| {
            value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains(kind))
        })
    };
    if accepts("text/plain") || accepts("application/openmetrics-text") {
        return prometheus(State(app)).await;
    }
    Reply(app.metrics.json(app.clock.now())).into_response()
}

/// GET /prometheus.
pub(super) async fn prometheus(State(app): State<App>) -> Response {
    if !app.config.observability.metrics_enabled {
        let body = "# Metrics disabled\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(CONTENT_TYPE, PLAIN)], body).into_response();
    }
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    let metrics = app.metrics.clone();
    match tokio::task::spawn_blocking(move || metrics.prometheus_text()).await {
        Ok(text) => ([(CONTENT_TYPE, TEXT)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// GET /_admin/security/limits: the limits that guard the server, for those who check them.
pub(super) async fn limits(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Reply<Value>, ApiError> {
    app.view(&caller, Access::Any, None, OpenTenant::Default)?;
    const MIB: f64 = (1 << 20) as f64;
    let bytes = app.config.limits.max_request_bytes;
    let (fetch, any) = (&app.config.fetch, vec!["*any domain*".to_owned()]);
    Ok(Reply(json!({
        "ssrf_protection": {
            "enabled": !fetch.danger_allow_private_addresses,
            "url_allowlist": if fetch.hosts.is_empty() { &any } else { &fetch.hosts },
            "blocked_ip_ranges": [
                "127.0.0.0/8 (localhost)",
                "10.0.0.0/8 (private)",
                "172.16.0.0/12 (private)",
                "192.168.0.0/16 (private)",
                "169.254.0.0/16 (link-local / AWS metadata)",
                "224.0.0.0/4 (multicast)",
            ],
            "max_fetch_bytes": fetch.max_bytes,
            "max_fetch_mb": fetch.max_bytes as f64 / MIB,
            "fetch_timeout_seconds": fetch.timeout.as_secs_f64(),
            "allowed_content_types": ["text/*", "application/json"],
        },
        "file_access": {
            "enabled": !fetch.folders.is_empty(),
            "allowed_base_directories": fetch.folders,
            "symlinks_blocked": true,
            "max_file_bytes": fetch.max_file_bytes,
            "max_file_mb": fetch.max_file_bytes as f64 / MIB,
        },
        "request_limits": {
            "max_request_body_bytes": bytes,
            "max_request_body_mb": bytes as f64 / MIB,
            "enforced_for": ["Content-Length header", "chunked transfers"],
        },
    })))
}
