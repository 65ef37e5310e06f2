//! Nodes: create, read, list, change, delete, refresh.

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::EmbeddingStatus;
use axum::extract::{Path, State};

use super::access::Who;
use super::failure::of_graph;
use super::wire::node::{
    BatchAnswer, BatchItem, BatchResult, ExternalNode, NodeBatch, NodeCreate, NodeCreated,
    NodeDeleted, NodeList, NodePut, NodeRefreshed, NodeSummary, NodeView, RefreshAnswer,
    RefreshQueued, VersionList, VersionView,
};
use super::wire::policy;
use super::wire::query::{DeleteQuery, ExternalIdQuery, ListQuery, TenantQuery, VersionsQuery};
use crate::app::App;
use crate::auth::Access;
use crate::auth::tenancy::OpenTenant::NamedOrDefault;
use crate::graph::{
    Created, HistoryEntry, ListedNode, Listing, NewNode, Node, NodeChanges, NodeFilter,
    NodeOutcome, Trigger, Work,
};
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Params, Reply};
use crate::timestamp::iso;
use crate::writes::Refreshed;

/// POST /nodes.
pub(super) async fn create(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(body): JsonBody<NodeCreate>,
) -> Result<Reply<NodeCreated>, ApiError> {
    let view = app.view(&caller, Access::Write, body.tenant_id.as_deref(), NamedOrDefault)?;
    let new = new_node(body, view.tenant().clone());
    let created = app.writes.create(new).await.map_err(|error| of_graph(error, None))?;
    let reported = created.job.filter(|_| app.graph.settings().report_jobs);
    Ok(Reply(NodeCreated {
        id: created.id.as_uuid(),
        embedding_status: reported.map(|_| status_name(created.status)),
        job_id: reported.map(|job| job.as_uuid()),
    }))
}

/// POST /nodes/batch.
pub(super) async fn create_batch(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(body): JsonBody<NodeBatch>,
) -> Result<Reply<BatchAnswer>, ApiError> {
    let NodeBatch { nodes, tenant_id, continue_on_error, .. } = body;
    let batch_view = app.view(&caller, Access::Write, tenant_id.as_deref(), NamedOrDefault)?;
    let max = app.config.limits.node_batch_max;
    if nodes.len() > max {
        return Err(ApiError::bad_request(format!("Batch too large (max {max})")));
    }
    // Refused nodes keep their place in the answer; the others are written together.
    let (mut new, mut plan) = (Vec::new(), Vec::new());
    for BatchItem { node, refused } in nodes {
        let view = match (&tenant_id, &node.tenant_id) {
            (None, Some(named)) => app.view(&caller, Access::Write, Some(named), NamedOrDefault)?,
            _ => batch_view.clone(),
        };
        let tenant = view.tenant().clone();
        plan.push((tenant.clone(), refused));
        match refused {
            None => new.push(new_node(node, tenant)),
            Some(_) if !continue_on_error => break,
            Some(_) => {}
        }
    }
    let outcomes = app.writes.create_many(new, continue_on_error).await;
    let outcomes = outcomes.map_err(|error| of_graph(error, None))?;
    Ok(Reply(batch_answer(&app, plan, outcomes, continue_on_error)))
}

/// The answer to a batch: what was refused here and what the graph said, in the order sent.
fn batch_answer(
    app: &App,
    plan: Vec<(TenantId, Option<&'static str>)>,
    outcomes: Vec<NodeOutcome>,
    go_on: bool,
) -> BatchAnswer {
    let mut answer = BatchAnswer { created: 0, failed: 0, results: Vec::new() };
    let mut outcomes = outcomes.into_iter();
    for (tenant, refused) in plan {
        let tenant_id = tenant.as_str().to_owned();
        let failure = match refused {
            Some(reason) => reason.to_owned(),
            None => match outcomes.next() {
                Some(Ok(created)) => {
                    answer.created += 1;
                    answer.results.push(batch_result(app, created));
                    continue;
                }
                Some(Err(error)) => error.to_string(),
                None => break, // the graph stopped at a failure before this one
            },
        };
        answer.failed += 1;
        answer.results.push(BatchResult::Failed { error: failure, tenant_id });
        if !go_on {
            break;
        }
    }
    answer
}

fn batch_result(app: &App, created: Created) -> BatchResult {
    let Created { id, tenant, status, job } = created;
    let reported = job.filter(|_| app.graph.settings().report_jobs);
    let told = reported.is_some() || status != EmbeddingStatus::Queued;
    BatchResult::Created {
        id: id.as_uuid(),
        tenant_id: tenant.as_str().to_owned(),
        embedding_status: told.then(|| status_name(status)),
        job_id: reported.map(|job| job.as_uuid()),
    }
}

/// GET /nodes.
pub(super) async fn list(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<ListQuery>,
) -> Result<Reply<NodeList>, ApiError> {
    let ListQuery { limit, offset, has_embedding, classes, include_props, tenant_id } = query;
    let view = app.view(&caller, Access::Read, tenant_id.as_deref(), NamedOrDefault)?;
    let filter = NodeFilter { has_embedding, classes };
    let listing = Listing { filter, offset: offset as u64, limit, props: include_props };
    let page = app.graph.list(&view, listing).await;
    let page = page.map_err(|error| of_graph(error, None))?;
    let nodes = page.nodes.into_iter().map(summary).collect();
    Ok(Reply(NodeList { nodes, total: page.total, limit, offset }))
}

/// GET /nodes/by-external-id.
pub(super) async fn by_external_id(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<ExternalIdQuery>,
) -> Result<Reply<ExternalNode>, ApiError> {
    let ExternalIdQuery { external_id, tenant_id } = query;
    let view = app.view(&caller, Access::Read, tenant_id.as_deref(), NamedOrDefault)?;
    let node = app.graph.by_external_id(&view, external_id).await;
    let Node { id, tenant, classes, props, metadata, payload_ref, .. } =
        node.map_err(|error| of_graph(error, None))?;
    let tenant_id = tenant.as_str().to_owned();
    Ok(Reply(ExternalNode { id: id.as_uuid(), tenant_id, classes, props, metadata, payload_ref }))
}

/// GET /nodes/{id}.
pub(super) async fn get(
    State(app): State<App>,
    Who(caller): Who,
    Path(id): Path<String>,
    Params(query): Params<TenantQuery>,
) -> Result<Reply<NodeView>, ApiError> {
    let view = app.view(&caller, Access::Read, query.tenant_id.as_deref(), NamedOrDefault)?;
    let node = app.graph.node(&view, node_id(&id)?).await;
    Ok(Reply(node_view(node.map_err(|error| of_graph(error, None))?)))
}

/// PUT /nodes/{id}.
pub(super) async fn put(
    State(app): State<App>,
    Who(caller): Who,
    Path(id): Path<String>,
    Params(query): Params<TenantQuery>,
    JsonBody(body): JsonBody<NodePut>,
) -> Result<Reply<NodeView>, ApiError> {
    let NodePut { classes, props, payload_ref, metadata, refresh_policy, triggers, tenant_id } =
        body;
    let named = tenant_id.or(query.tenant_id);
    let view = app.view(&caller, Access::Write, named.as_deref(), NamedOrDefault)?;
    let triggers = triggers.map(|triggers| triggers.into_iter().map(trigger).collect());
    let changes = NodeChanges { classes, props, payload_ref, metadata, refresh_policy, triggers };
    let node = app.writes.update(&view, node_id(&id)?, changes).await;
    Ok(Reply(node_view(node.map_err(|error| of_graph(error, None))?)))
}

/// DELETE /nodes/{id}.
pub(super) async fn delete(
    State(app): State<App>,
    Who(caller): Who,
    Path(id): Path<String>,
    Params(query): Params<DeleteQuery>,
) -> Result<Reply<NodeDeleted>, ApiError> {
    let DeleteQuery { hard, tenant_id } = query;
    let view = app.view(&caller, Access::Write, tenant_id.as_deref(), NamedOrDefault)?;
    let id = node_id(&id)?;
    let done =
        if hard { app.graph.remove(&view, id).await } else { app.graph.delete(&view, id).await };
    done.map_err(|error| of_graph(error, None))?;
    Ok(Reply(NodeDeleted { id: id.as_uuid(), status: "deleted", hard }))
}

/// POST /nodes/{id}/refresh.
pub(super) async fn refresh(
    State(app): State<App>,
    Who(caller): Who,
    Path(id): Path<String>,
    Params(query): Params<TenantQuery>,
) -> Result<Reply<RefreshAnswer>, ApiError> {
    const PREFIX: Option<&str> = Some("Node refresh failed");
    let view = app.view(&caller, Access::Write, query.tenant_id.as_deref(), NamedOrDefault)?;
    let id = node_id(&id)?;
    let work = Work::manual(&caller.actor_id, &caller.actor_type);
    let refreshed = app.writes.refresh(&view, id, work).await;
    let done = |drift_score, last_refreshed, event_id| {
        let id = id.as_uuid();
        RefreshAnswer::Done(NodeRefreshed { id, drift_score, last_refreshed, event_id })
    };
    Ok(Reply(match refreshed.map_err(|error| of_graph(error, PREFIX))? {
        Refreshed::Queued(job) => {
            let (id, job_id) = (id.as_uuid(), job.as_uuid());
            RefreshAnswer::Queued(RefreshQueued { id, status: "queued", job_id })
        }
        Refreshed::Done { drift, at, event } => {
            done(Some(drift), Some(iso(at.get())), event.map(|event| event.as_uuid()))
        }
        Refreshed::Skipped => done(None, None, None),
        Refreshed::Failed => {
            let node = app.graph.node(&view, id).await.map_err(|error| of_graph(error, PREFIX))?;
            let reason = node.embedding_error.unwrap_or_default();
            return Err(ApiError::internal("Node refresh failed", reason));
        }
        Refreshed::Gone => return Err(ApiError::not_found("Node not found")),
    }))
}

/// GET /nodes/{id}/versions.
pub(super) async fn versions(
    State(app): State<App>,
    Who(caller): Who,
    Path(id): Path<String>,
    Params(query): Params<VersionsQuery>,
) -> Result<Reply<VersionList>, ApiError> {
    let view = app.view(&caller, Access::Read, query.tenant_id.as_deref(), NamedOrDefault)?;
    let limit =
        query.limit.ok_or_else(|| ApiError::bad_request("Limit must be between 1 and 100"))?;
    let history = match id.parse::<NodeId>() {
        Ok(id) => app.graph.history(&view, id, limit).await,
        Err(_) => Ok(Vec::new()),
    };
    let history = history.map_err(|error| of_graph(error, Some("Node versions query failed")))?;
    let versions: Vec<_> = history.into_iter().enumerate().map(version_view).collect();
    Ok(Reply(VersionList { node_id: id, count: versions.len(), versions }))
}

/// The id in a path. What is no id names no node.
pub(super) fn node_id(text: &str) -> Result<NodeId, ApiError> {
    text.parse().map_err(|_| ApiError::not_found("Node not found"))
}

/// The name of a status in answers.
pub(super) fn status_name(status: EmbeddingStatus) -> &'static str {
    match status {
        EmbeddingStatus::Queued => "queued",
        EmbeddingStatus::Processing => "processing",
        EmbeddingStatus::Ready => "ready",
        EmbeddingStatus::Failed => "failed",
        EmbeddingStatus::Skipped => "skipped",
    }
}

fn new_node(body: NodeCreate, tenant: TenantId) -> NewNode {
    let NodeCreate {
        classes,
        props,
        payload_ref,
        metadata,
        refresh_policy,
        triggers,
        tenant_id: _, // resolved to `tenant`
        extract: _,   // extraction is off, as the service reports
        extract_before_embed: _,
    } = body;
    let triggers = triggers.into_iter().map(trigger).collect();
    NewNode { tenant, classes, props, payload_ref, metadata, refresh_policy, triggers }
}

fn trigger(trigger: policy::Trigger) -> Trigger {
    let policy::Trigger { name, threshold } = trigger;
    Trigger { name, threshold }
}

fn node_view(node: Node) -> NodeView {
    let triggers = node.triggers.into_iter();
    NodeView {
        id: node.id.as_uuid(),
        classes: node.classes,
        props: node.props,
        payload_ref: node.payload_ref,
        metadata: node.metadata,
        refresh_policy: node.refresh_policy,
        triggers: triggers
            .map(|Trigger { name, threshold }| policy::Trigger { name, threshold })
            .collect(),
        version: node.version,
        embedding_status: status_name(node.embedding_status),
        embedding_error: node.embedding_error,
        embedding_attempts: node.embedding_attempts,
        embedding_updated_at: node.embedding_updated_at.map(|at| iso(at.get())),
    }
}

fn summary(node: ListedNode) -> NodeSummary {
    let ListedNode {
        id,
        classes,
        props,
        embedding_status,
        embedding_error,
        embedding_attempts,
        has_embedding,
    } = node;
    NodeSummary {
        id: id.as_uuid(),
        classes,
        has_embedding,
        embedding_status: status_name(embedding_status),
        embedding_error,
        embedding_attempts,
        props,
    }
}

fn version_view((version_index, entry): (usize, HistoryEntry)) -> VersionView {
    let HistoryEntry { drift, embedding_ref, created_at } = entry;
    VersionView {
        version_index,
        drift_score: drift,
        created_at: iso(created_at.get()),
        embedding_ref,
    }
}
