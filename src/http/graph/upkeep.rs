//! Refreshing on demand, what behaves oddly, and when the scheduler ran.

use std::time::Duration;

use activekg_storage::time::UnixMicros;
use axum::extract::State;
use serde_json::{Map, Value, json};
use tracing::info;

use super::access::Who;
use super::failure::of_graph;
use super::search::rounded;
use super::wire::query::TenantQuery;
use super::wire::upkeep::{AnomaliesQuery, RefreshRequest};
use crate::app::App;
use crate::auth::Access;
use crate::auth::tenancy::OpenTenant::{Default as DefaultTenant, Dev, NamedOrDefault};
use crate::graph::{DriftSpike, Node, SchedulerLag, TriggerStorm, Work};
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Params, Reply};
use crate::refresh::TRIGGER_CYCLE;
use crate::timestamp::iso;

const HOUR: Duration = Duration::from_secs(3600);

/// POST /admin/refresh: some nodes, or everything of the caller's tenant that is due.
pub(super) async fn refresh(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(body): JsonBody<RefreshRequest>,
) -> Result<Reply<Value>, ApiError> {
    let RefreshRequest { requested, ids } = body;
    let view = app.view(&caller, Access::Admin, None, Dev)?;
    let failed = |error| of_graph(error, Some("Admin refresh failed"));
    if requested == 0 {
        let queued = app.writes.refresh_due(&view).await.map_err(failed)?;
        info!(tenant = %view.tenant(), nodes = queued, "admin refresh: nodes that were due");
        return Ok(Reply(json!({
            "status": "completed",
            "mode": "all_due_nodes",
            "message": "Check logs for refresh count",
        })));
    }
    let work = |id| (id, Work::manual(&caller.actor_id, &caller.actor_type));
    let nodes = ids.into_iter().map(work).collect();
    let done = app.writes.refresh_many(&view, nodes).await.map_err(failed)?;
    let mut answer = json!({
        "status": "completed",
        "mode": "specific_nodes",
        "requested": requested,
        "refreshed": done.refreshed,
    });
    if done.waiting > 0 {
        answer["queued"] = done.waiting.into();
    }
    Ok(Reply(answer))
}

/// GET /admin/anomalies.
pub(super) async fn anomalies(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<AnomaliesQuery>,
) -> Result<Reply<Value>, ApiError> {
    let view = app.view(&caller, Access::Read, query.tenant_id.as_deref(), NamedOrDefault)?;
    let wanted = |kind| query.types.is_empty() || query.types.iter().any(|named| named == kind);
    let hours = query.lookback_hours;
    let now = app.clock.now();
    let since = UnixMicros(now.get() - hours * HOUR.as_micros() as i64);
    let failed = |error| of_graph(error, Some("Anomaly detection failed"));
    let mut found = Map::new();
    if wanted("drift_spike") {
        let factor = query.drift_spike_threshold;
        let spikes = app.graph.drift_spikes(&view, since, factor).await.map_err(failed)?;
        let spikes = spikes.into_iter().map(|spike| drift_spike(spike, factor)).collect();
        found.insert("drift_spike".to_owned(), spikes);
    }
    if wanted("trigger_storm") {
        let most = query.trigger_storm_threshold;
        let storms = app.graph.trigger_storms(&view, since, most).await.map_err(failed)?;
        let storms = storms.into_iter().map(|storm| trigger_storm(storm, most)).collect();
        found.insert("trigger_storm".to_owned(), storms);
    }
    if wanted("scheduler_lag") {
        let times = query.scheduler_lag_multiplier;
        let lags = app.graph.scheduler_lags(&view, times).await.map_err(failed)?;
        let lags = lags.into_iter().map(|lag| scheduler_lag(lag, times)).collect();
        found.insert("scheduler_lag".to_owned(), lags);
    }
    let count = |items: &Value| items.as_array().map_or(0, Vec::len);
    let by_type: Map<String, Value> =
        found.iter().map(|(kind, items)| (kind.clone(), count(items).into())).collect();
    let total: usize = found.values().map(count).sum();
    Ok(Reply(json!({
        "anomalies": found,
        "summary": { "total": total, "by_type": by_type, "lookback_hours": hours },
    })))
}

fn drift_spike(spike: DriftSpike, threshold: f64) -> Value {
    let DriftSpike { node, drifts, mean } = spike;
    let average = drifts.iter().sum::<f64>() / drifts.len() as f64;
    with_node(
        json!({
            "type": "drift_spike",
            "node_id": node.id.to_string(),
            "spike_count": drifts.len(),
            "avg_drift": average,
            "drift_scores": drifts,
            "mean_drift": mean,
            "spike_threshold": threshold,
        }),
        node,
    )
}

fn trigger_storm(storm: TriggerStorm, threshold: usize) -> Value {
    let TriggerStorm { node, n_events, first, last, recent } = storm;
    let event = |(at, payload): (UnixMicros, Map<String, Value>)| json!({ "type": "trigger_fired", "created_at": iso(at.get()), "payload": payload });
    with_node(
        json!({
            "type": "trigger_storm",
            "node_id": node.id.to_string(),
            "event_count": n_events,
            "first_event": iso(first.get()),
            "last_event": iso(last.get()),
            "recent_events": recent.into_iter().map(event).collect::<Vec<_>>(),
            "event_threshold": threshold,
        }),
        node,
    )
}

/// A node that was never refreshed has no lag that could be told in seconds.
fn scheduler_lag(lag: SchedulerLag, multiplier: f64) -> Value {
    let SchedulerLag { node, expected, actual } = lag;
    let expected = expected.as_secs_f64();
    let actual = actual.map(|actual| actual.as_secs_f64());
    with_node(
        json!({
            "type": "scheduler_lag",
            "node_id": node.id.to_string(),
            "expected_interval_seconds": expected,
            "actual_lag_seconds": actual,
            "lag_ratio": actual.map(|actual| rounded(actual / expected, 2)),
            "lag_multiplier": multiplier,
            "last_refreshed": node.last_refreshed.map(|at| iso(at.get())),
        }),
        node,
    )
}

/// What every anomaly ends with.
fn with_node(mut anomaly: Value, node: Node) -> Value {
    anomaly["classes"] = node.classes.into();
    anomaly["props"] = node.props.into();
    anomaly
}

/// GET /_admin/metrics_summary.
pub(super) async fn metrics_summary(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<TenantQuery>,
) -> Result<Reply<Value>, ApiError> {
    let view = app.view(&caller, Access::Admin, query.tenant_id.as_deref(), DefaultTenant)?;
    let patterns = app.graph.n_patterns(&view).await.map_err(|error| of_graph(error, None))?;
    let shown = |at: Option<UnixMicros>| at.map(|at| iso(at.get()));
    let jobs = app.runs.jobs().into_iter();
    let jobs: Map<String, Value> =
        jobs.map(|(job, at)| (job.to_owned(), shown(at).into())).collect();
    Ok(Reply(json!({
        "version": app.config.server.version,
        "rate_limit_enabled": app.config.limits.rates.is_some(),
        "scheduler_enabled": app.config.background.scheduler,
        "triggers": {
            "last_run": shown(app.runs.last(TRIGGER_CYCLE)),
            "patterns_registered": patterns,
        },
        "scheduler": { "jobs": jobs },
    })))
}
