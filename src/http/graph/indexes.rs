//! The vector indexes, and what clients of a database ask of it: bring it up to date, describe it.

use activekg_index::{Engine, EngineState, Engines};
use activekg_storage::tables;
use axum::extract::State;
use serde_json::{Map, Value, json};

use super::access::Who;
use super::failure::{of_graph, of_search};
use super::wire::indexes::{IndexesAnswer, IndexesRequest};
use crate::app::App;
use crate::auth::Access;
use crate::auth::tenancy::OpenTenant::Default as DefaultTenant;
use crate::config::Distance;
use crate::graph;
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Reply};
use crate::search;
use crate::search::engines::{Change, Changed, index_name};

/// What clients call a table, the store's table of it, and the members of its rows.
const TABLES: [(&str, &str, &[&str]); 6] = [
    (
        "nodes",
        "graph.nodes",
        &[
            "id",
            "tenant_id",
            "classes",
            "props",
            "payload_ref",
            "embedding",
            "metadata",
            "refresh_policy",
            "triggers",
            "version",
            "embedding_status",
            "embedding_error",
            "embedding_attempts",
            "embedding_updated_at",
            "last_refreshed",
            "drift_score",
            "created_at",
            "updated_at",
        ],
    ),
    ("edges", "graph.edges", &["src", "rel", "dst", "props", "tenant_id", "created_at"]),
    (
        "events",
        "graph.events",
        &["id", "node_id", "type", "payload", "tenant_id", "actor_id", "actor_type", "created_at"],
    ),
    (
        "embedding_history",
        "graph.history",
        &["node_id", "tenant_id", "drift_score", "embedding_ref", "created_at"],
    ),
    (
        "patterns",
        "graph.patterns",
        &[
            "name",
            "tenant_id",
            "example_text",
            "embedding",
            "description",
            "created_at",
            "updated_at",
        ],
    ),
    ("node_versions", "graph.versions", &["node_id", "tenant_id", "snapshot", "created_at"]),
];

/// GET /admin/indexes.
pub(super) async fn list(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Reply<IndexesAnswer>, ApiError> {
    app.view(&caller, Access::Admin, None, DefaultTenant)?;
    Ok(Reply(listed(&app, &app.config.search.index_types)))
}

/// POST /admin/indexes.
pub(super) async fn change(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(body): JsonBody<IndexesRequest>,
) -> Result<Reply<IndexesAnswer>, ApiError> {
    app.view(&caller, Access::Admin, None, DefaultTenant)?;
    let IndexesRequest { action, types, metric } = body;
    let (action, change) = match action.as_str() {
        "list" => ("list", None),
        "ensure" => ("ensure", Some(Change::Ensure)),
        "rebuild" => ("rebuild", Some(Change::Rebuild)),
        "drop" => ("drop", Some(Change::Drop)),
        other => {
            let detail = format!("Unknown action {other:?}: use list, ensure, rebuild or drop");
            return Err(ApiError::bad_request(detail));
        }
    };
    let requested = match types {
        Some(types) => engines(&types)?,
        None => app.config.search.index_types.clone(),
    };
    if let Some(metric) = metric {
        served_metric(&metric, app.config.search.distance)?;
    }
    match change {
        None => Ok(Reply(listed(&app, &requested))),
        Some(change) => Ok(Reply(changed(&app, action, change, &requested).await?)),
    }
}

/// The types that are named, each once.
fn engines(types: &[String]) -> Result<Vec<Engine>, ApiError> {
    let mut engines = Vec::new();
    for name in types {
        let Some(engine) = Engine::ALL.into_iter().find(|known| known.as_str() == name) else {
            let detail = format!("Unknown index type {name:?}: use hnsw or ivfflat");
            return Err(ApiError::bad_request(detail));
        };
        if !engines.contains(&engine) {
            engines.push(engine);
        }
    }
    Ok(engines)
}

/// Refuses a metric that no search of this store compares by: an index over it would serve nobody.
fn served_metric(metric: &str, served: Distance) -> Result<(), ApiError> {
    let known = [Distance::Cosine, Distance::L2, Distance::Ip];
    if !known.iter().any(|distance| distance.as_str() == metric) {
        let detail = format!("Unknown metric {metric:?}: use cosine, l2 or ip");
        return Err(ApiError::bad_request(detail));
    }
    if metric != served.as_str() {
        let detail = format!(
            "Searches compare by {}, so an index over {metric} would not be used: \
             start with SEARCH_DISTANCE={metric} to change that",
            served.as_str()
        );
        return Err(ApiError::bad_request(detail));
    }
    Ok(())
}

/// What is there, with nothing done.
fn listed(app: &App, requested: &[Engine]) -> IndexesAnswer {
    let existing = app.vector_indexes.existing();
    answer(app, "list", requested, Changed { existing, ..Changed::default() })
}

async fn changed(
    app: &App,
    action: &'static str,
    change: Change,
    requested: &[Engine],
) -> Result<IndexesAnswer, ApiError> {
    let engines: Engines = requested.iter().copied().collect();
    let changed = app.vector_indexes.change(change, engines).await.map_err(failed)?;
    Ok(answer(app, action, requested, changed))
}

fn failed(error: search::Error) -> ApiError {
    const PREFIX: &str = "Index management failed";
    match error {
        search::Error::Storage(error) => of_graph(graph::Error::from(error), Some(PREFIX)),
        other => of_search(other, PREFIX),
    }
}

fn answer(
    app: &App,
    action: &'static str,
    requested: &[Engine],
    changed: Changed,
) -> IndexesAnswer {
    let Changed { existing, created, dropped } = changed;
    IndexesAnswer {
        action,
        metric: app.config.search.distance.as_str(),
        requested: requested.iter().map(|engine| engine.as_str()).collect(),
        existing: names(app, existing),
        created: names(app, created),
        dropped: names(app, dropped),
    }
}

/// The names of the indexes of these types.
pub(super) fn names(app: &App, engines: Engines) -> Vec<String> {
    engines.iter().map(|engine| index_name(engine, app.config.search.distance)).collect()
}

/// POST /admin/migrate: the store was checked and brought up to date when it was opened, so what is
/// left is to see that it still takes writes, and to have the indexes of the settings.
pub(super) async fn migrate(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Reply<Value>, ApiError> {
    app.view(&caller, Access::Admin, None, DefaultTenant)?;
    if let Some(fault) = app.graph.store().fault() {
        return Err(ApiError::unavailable(format!("The store takes no writes: {fault}")));
    }
    let requested = &app.config.search.index_types;
    let indexes = changed(&app, "ensure", Change::Ensure, requested).await?;
    Ok(Reply(json!({
        "status": "ok",
        "store": { "format": activekg_storage::FORMAT, "tables": tables::all().count() },
        "indexes": indexes,
    })))
}

/// GET /admin/db_status: the store in the words of the database that it replaces.
pub(super) async fn db_status(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Reply<Value>, ApiError> {
    app.view(&caller, Access::Admin, None, DefaultTenant)?;
    let (mut present, mut columns, mut policies) = (Map::new(), Map::new(), Map::new());
    for (name, table, members) in TABLES {
        let there = tables::all().any(|known| known.name == table);
        present.insert(name.to_owned(), there.into());
        columns.insert(name.to_owned(), json!(members));
        // No setting switches it off: the tenant is the first part of every key.
        policies.insert(name.to_owned(), json!({ "enabled": there, "enforced_by": "store" }));
    }
    let fault = app.graph.store().fault().map(|fault| fault.to_string());
    let distance = app.config.search.distance;
    let vector =
        app.vector_indexes.states().map(|(engine, state)| described(engine, state, distance));
    Ok(Reply(json!({
        "status": if fault.is_none() { "ok" } else { "degraded" },
        "fault": fault,
        "database": "activekg",
        "format": activekg_storage::FORMAT,
        "tables": present,
        "columns": columns,
        "indexes": {
            "vector_index": !app.vector_indexes.existing().is_empty(),
            "text_index": app.search.freshness().state() == search::State::Following,
            "vector": vector,
        },
        "extensions": { "vector": "built in" },
        "rls_policies": policies,
    })))
}

fn described(engine: Engine, state: EngineState, distance: Distance) -> Value {
    let (word, progress) = match state {
        EngineState::Off => ("off", None),
        EngineState::Idle => ("idle", None),
        EngineState::Building { done, total, serving: _ } => ("building", Some((done, total))),
        EngineState::Ready => ("ready", None),
        EngineState::Rejected => ("rejected", None),
    };
    let mut index = json!({
        "name": index_name(engine, distance),
        "type": engine.as_str(),
        "metric": distance.as_str(),
        "state": word,
    });
    if let Some((done, total)) = progress {
        index["done"] = done.into();
        index["total"] = total.into();
    }
    index
}
