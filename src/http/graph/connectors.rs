//! Connectors, for the administrators of their tenants.

mod body;
mod dead;
mod flow;
mod keys;
mod purge;
mod trial;

use activekg_storage::ids::TenantId;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::access::{Who, actor};
use super::failure::of_graph;
use super::wire::connectors::{
    CacheHealth, ConfigChange, ConnectorChanged, ConnectorList, ConnectorView, OwnerQuery,
    Registration, Subscriber, Switch, changed, refused,
};
use crate::app::App;
use crate::auth::Caller;
use crate::auth::tenancy::answers_for_all;
use crate::connectors::{Error, Provider, SubscriberHealth};
use crate::graph;
use crate::http::error::{ApiError, ErrorKind};
use crate::http::extract::{Params, Reply};
use crate::timestamp::iso;

use body::{AnyBody, NewConnector};

pub(super) use dead::{clear, inspect, replay};
pub(super) use flow::{backfill, cursor, drop_waiting, ingest, peek, status};
pub(super) use keys::{rotate, status as key_status};
pub(super) use purge::{purge, receipts};
pub(super) use trial::try_out;

/// What the caller reads when the store fails.
const NOT_SAVED: &str = "Failed to save connector config";
const NOT_READ: &str = "Failed to read connector configs";

/// POST /_admin/connectors/{provider}/register.
pub(super) async fn register(
    State(app): State<App>,
    Who(caller): Who,
    NewConnector(registration): NewConnector,
) -> Result<Reply<ConnectorChanged>, ApiError> {
    let Registration { provider, tenant_id, settings } = registration;
    let tenant = app.administered(&caller, tenant_id.as_deref())?;
    allowed(&app, &caller, provider, &settings)?;
    let registered = app.connectors.register(&tenant, provider, settings, actor(&caller)).await;
    registered.map_err(|error| failed(error, NOT_SAVED))?;
    Ok(done("registered", &tenant, provider.as_str()))
}

/// GET /_admin/connectors/.
pub(super) async fn list(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Reply<ConnectorList>, ApiError> {
    let tenant = app.listed(&caller)?;
    let listed = app.connectors.list(tenant).await.map_err(|error| failed(error, NOT_READ))?;
    Ok(Reply(ConnectorList { connectors: listed.into_iter().map(Into::into).collect() }))
}

/// GET /_admin/connectors/{provider}.
pub(super) async fn show(
    State(app): State<App>,
    Who(caller): Who,
    Path(provider): Path<String>,
    Params(OwnerQuery { tenant_id }): Params<OwnerQuery>,
) -> Result<Reply<ConnectorView>, ApiError> {
    let tenant = app.administered(&caller, Some(&tenant_id))?;
    let found = app.connectors.get(&tenant, &provider).await;
    let found = found.map_err(|error| failed(error, NOT_READ))?;
    Ok(Reply(ConnectorView::new(&tenant, provider, &found)))
}

/// PATCH /_admin/connectors/{provider}/config.
pub(super) async fn update(
    State(app): State<App>,
    Who(caller): Who,
    Path(name): Path<String>,
    AnyBody(ConfigChange { tenant_id, config }): AnyBody<ConfigChange>,
) -> Result<Reply<ConnectorChanged>, ApiError> {
    let tenant = app.administered(&caller, tenant_id.as_deref())?;
    let missing = || Error::NotFound { tenant: tenant.clone(), provider: name.clone() };
    let provider = Provider::named(&name).ok_or_else(|| failed(missing(), NOT_READ))?;
    let stored = app.connectors.stored(&tenant, provider).await;
    let stored = stored.map_err(|error| failed(error, NOT_READ))?;
    let settings = changed(provider, stored.connector.changed(&config))?;
    allowed(&app, &caller, provider, &settings)?;
    let replaced =
        app.connectors.replace(&tenant, provider, stored, settings, actor(&caller)).await;
    replaced.map_err(|error| failed(error, NOT_SAVED))?;
    Ok(done("updated", &tenant, &name))
}

/// DELETE /_admin/connectors/{provider}/config.
pub(super) async fn delete(
    State(app): State<App>,
    Who(caller): Who,
    Path(provider): Path<String>,
    Params(OwnerQuery { tenant_id }): Params<OwnerQuery>,
) -> Result<Reply<ConnectorChanged>, ApiError> {
    let tenant = app.administered(&caller, Some(&tenant_id))?;
    let deleted = app.connectors.delete(&tenant, &provider, actor(&caller)).await;
    deleted.map_err(|error| failed(error, "Failed to delete connector config"))?;
    Ok(done("deleted", &tenant, &provider))
}

/// POST /_admin/connectors/{provider}/enable.
pub(super) async fn enable(
    State(app): State<App>,
    Who(caller): Who,
    Path(provider): Path<String>,
    AnyBody(Switch { tenant_id }): AnyBody<Switch>,
) -> Result<Reply<ConnectorChanged>, ApiError> {
    let tenant = app.administered(&caller, Some(&tenant_id))?;
    let enabled = app.connectors.enable(&tenant, &provider, actor(&caller)).await;
    enabled.map_err(|error| failed(error, NOT_SAVED))?;
    Ok(done("enabled", &tenant, &provider))
}

/// POST /_admin/connectors/{provider}/disable.
pub(super) async fn disable(
    State(app): State<App>,
    Who(caller): Who,
    Path(provider): Path<String>,
    AnyBody(Switch { tenant_id }): AnyBody<Switch>,
) -> Result<Reply<ConnectorChanged>, ApiError> {
    let tenant = app.administered(&caller, Some(&tenant_id))?;
    let disabled = app.connectors.disable(&tenant, &provider, actor(&caller)).await;
    disabled.map_err(|error| failed(error, NOT_SAVED))?;
    Ok(done("disabled", &tenant, &provider))
}

/// GET /_admin/connectors/cache/health.
pub(super) async fn cache_health(State(app): State<App>) -> Reply<CacheHealth> {
    let subscriber = app.connectors.subscriber();
    let ok = subscriber.is_some_and(|subscriber| subscriber.connected);
    let subscriber = subscriber.map(|health| {
        let SubscriberHealth { connected, last_message_at, reconnects } = health;
        // Scripts know this one instant with a Z.
        let last_message_ts = last_message_at.map(|at| iso(at.get()).replace("+00:00", "Z"));
        Subscriber { connected, last_message_ts, reconnects }
    });
    Reply(CacheHealth { status: if ok { "ok" } else { "degraded" }, subscriber })
}

/// POST /_admin/connectors/cache/flush.
pub(super) async fn flush_cache(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Reply<Value>, ApiError> {
    app.listed(&caller)?;
    let n_flushed = app.connectors.flush();
    tracing::info!(actor = actor(&caller), n_flushed, "connector config cache flushed");
    Ok(Reply(json!({ "status": "flushed", "entries": n_flushed })))
}

/// Whether this caller may give a connector these settings.
fn allowed(
    app: &App,
    caller: &Caller,
    provider: Provider,
    settings: &activekg_storage::crypt::fields::Settings,
) -> Result<(), ApiError> {
    let checked = app.connector_policy.check(provider, settings, answers_for_all(caller));
    checked.map_err(|error| refused(error.field, &error.why).into())
}

fn done(status: &'static str, tenant: &TenantId, provider: &str) -> Reply<ConnectorChanged> {
    let tenant_id = tenant.as_str().to_owned();
    Reply(ConnectorChanged { status, tenant_id, provider: provider.to_owned() })
}

/// The answer to an error of a connector; `doing` is what the client reads where the cause is
/// inside.
fn failed(error: Error, doing: &'static str) -> ApiError {
    let text = error.to_string();
    match error {
        Error::NotFound { .. } => ApiError::not_found(text),
        Error::NotOpened { .. } => ApiError::new(ErrorKind::Internal, text),
        Error::NoKey => ApiError::new(ErrorKind::NotConfigured, text),
        Error::Contended | Error::RotationRunning => ApiError::conflict(text),
        Error::Storage(inside) => of_graph(graph::Error::from(inside), Some(doing)),
        Error::Interrupted => of_graph(graph::Error::Interrupted, Some(doing)),
    }
}
