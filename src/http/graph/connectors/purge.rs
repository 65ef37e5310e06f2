//! Purging what was deleted.

use axum::extract::State;

use super::super::access::{Who, actor};
use super::super::failure::of_graph;
use super::super::wire::purge::{PurgeAnswer, PurgeBody, ReceiptList, ReceiptsQuery};
use super::body::AnyBody;
use crate::app::App;
use crate::connectors::{PurgeError, PurgeRequest};
use crate::graph::{self, RECEIPTS_MAX};
use crate::http::error::{ApiError, Detail, ErrorKind};
use crate::http::extract::{Params, Reply};

/// POST /_admin/connectors/purge_deleted.
pub(in crate::http::graph) async fn purge(
    State(app): State<App>,
    Who(caller): Who,
    AnyBody(body): AnyBody<PurgeBody>,
) -> Result<Reply<PurgeAnswer>, ApiError> {
    let PurgeBody { tenant, batch_size, dry_run, apply_retention } = body;
    let tenant = match tenant {
        Some(tenant) => Some(app.administered(&caller, Some(tenant.as_str()))?),
        None => app.listed(&caller)?,
    };
    let request = PurgeRequest { tenant, batch_size, dry_run, apply_retention };
    let report = app.purger.run(request, actor(&caller)).await.map_err(failed)?;
    Ok(Reply(PurgeAnswer::new(report, dry_run, apply_retention)))
}

/// GET /_admin/connectors/purge_receipts.
pub(in crate::http::graph) async fn receipts(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<ReceiptsQuery>,
) -> Result<Reply<ReceiptList>, ApiError> {
    let ReceiptsQuery { tenant_id, after, limit } = query;
    let tenant = app.administered(&caller, tenant_id.as_deref())?;
    let found = app.graph.purge_receipts(&tenant, after, limit).await;
    let found = found.map_err(|error| of_graph(error, None))?;
    Ok(Reply(ReceiptList::new(&tenant, found, limit.min(RECEIPTS_MAX))))
}

fn failed(error: PurgeError) -> ApiError {
    let text = format!("Purge failed: {error}");
    let inside = match error {
        PurgeError::Graph(error) => of_graph(error, None),
        PurgeError::Stopping | PurgeError::Interrupted => of_graph(graph::Error::Interrupted, None),
    };
    ApiError { kind: ErrorKind::Internal, detail: Detail::Text(text.into()), ..inside }
}
