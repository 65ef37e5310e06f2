//! The workers of the process, for whoever answers for the data of all tenants.

use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::access::{Who, actor};
use super::failure::of_graph;
use super::wire::workers::ScaleRequest;
use crate::app::App;
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Reply};
use crate::jobs::{Crew, CrewError};

/// The queue whose workers are counted and changed.
const CONNECTOR: &str = "connector";

/// GET /_admin/workers.
pub(super) async fn show(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Reply<Value>, ApiError> {
    app.operated(&caller, None)?;
    Ok(Reply(json!({ "workers": [counted(&app.connector_workers)] })))
}

/// POST /_admin/workers/{queue}/scale.
pub(super) async fn scale(
    State(app): State<App>,
    Who(caller): Who,
    Path(queue): Path<String>,
    JsonBody(ScaleRequest { workers }): JsonBody<ScaleRequest>,
) -> Result<Reply<Value>, ApiError> {
    app.operated(&caller, None)?;
    let before = of(&app, &queue)?.scale(workers, actor(&caller)).await.map_err(refused)?;
    Ok(Reply(json!({ "queue": CONNECTOR, "workers": workers, "before": before })))
}

/// POST /_admin/workers/{queue}/restart.
pub(super) async fn restart(
    State(app): State<App>,
    Who(caller): Who,
    Path(queue): Path<String>,
) -> Result<Reply<Value>, ApiError> {
    app.operated(&caller, None)?;
    let workers = of(&app, &queue)?.restart(actor(&caller)).await.map_err(refused)?;
    Ok(Reply(json!({ "queue": CONNECTOR, "workers": workers })))
}

/// The workers on a queue.
fn of<'a>(app: &'a App, queue: &str) -> Result<&'a Crew, ApiError> {
    match queue {
        CONNECTOR => Ok(&app.connector_workers),
        _ => Err(ApiError::not_found("no such workers; there are those of connector")),
    }
}

fn counted(crew: &Crew) -> Value {
    let counts = crew.counts();
    json!({
        "queue": CONNECTOR,
        "wanted": crew.wanted(),
        "running": counts.running(),
        "busy": counts.busy(),
    })
}

fn refused(error: CrewError) -> ApiError {
    match error {
        CrewError::Off => ApiError::conflict(error.to_string()),
        CrewError::Storage(error) => of_graph(error.into(), None),
    }
}
