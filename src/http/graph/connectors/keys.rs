//! The keys that seal the secrets of connectors.

use activekg_storage::crypt::rotate::Selection;
use axum::extract::State;
use serde_json::{Value, json};

use super::super::access::{Who, actor};
use super::super::wire::connectors::{KeysQuery, RotateRequest, Rotation};
use super::body::AnyBody;
use super::{NOT_READ, failed};
use crate::app::App;
use crate::connectors::{Error, Listed};
use crate::http::error::{ApiError, ErrorKind};
use crate::http::extract::{Params, Reply};
use crate::timestamp::iso;

/// GET /_admin/connectors/keys.
pub(in crate::http::graph) async fn status(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<KeysQuery>,
) -> Result<Reply<Value>, ApiError> {
    let tenant = match &query.tenant_id {
        Some(named) => Some(app.administered(&caller, Some(named))?),
        None => app.listed(&caller)?,
    };
    let status = app.connectors.key_status(tenant.clone()).await;
    let status = status.map_err(|error| failed(error, NOT_READ))?;
    let listed = app.connectors.list(tenant).await.map_err(|error| failed(error, NOT_READ))?;
    // As a value, whose names are texts: versions are numbers.
    let mut answer = serde_json::to_value(status).map_err(ApiError::unhandled)?;
    answer["rows"] = listed.iter().filter(|listed| query.wants(listed)).map(row).collect();
    Ok(Reply(answer))
}

fn row(listed: &Listed) -> Value {
    json!({
        "tenant_id": listed.tenant.as_str(),
        "provider": listed.provider,
        "key_version": listed.key_version,
        "updated_at": iso(listed.updated_at.get()),
    })
}

/// POST /_admin/connectors/rotate_keys.
pub(in crate::http::graph) async fn rotate(
    State(app): State<App>,
    Who(caller): Who,
    AnyBody(request): AnyBody<RotateRequest>,
) -> Result<Reply<Rotation>, ApiError> {
    let RotateRequest { providers, tenants, batch_size, dry_run } = request;
    app.administered_all(&caller, &tenants)?;
    let selection = Selection { providers, tenants };
    if dry_run {
        let candidates = app.connectors.candidates(selection).await;
        return Ok(Reply(Rotation::counted(candidates.map_err(not_rotated)?)));
    }
    let rotated = app.connectors.rotate(selection, batch_size, actor(&caller)).await;
    Ok(Reply(rotated.map_err(not_rotated)?.into()))
}

fn not_rotated(error: Error) -> ApiError {
    let text = format!("Key rotation failed: {error}");
    match failed(error, "") {
        inside @ ApiError { kind: ErrorKind::Internal, .. } => {
            ApiError { detail: crate::http::error::Detail::Text(text.into()), ..inside }
        }
        other => other,
    }
}
