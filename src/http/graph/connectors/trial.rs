//! Trying out whether a connector can read its source.

use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use serde_json::{Value, json};

use super::super::access::Who;
use super::super::wire::connectors::TrialRequest;
use super::body::{document, taken};
use super::{NOT_READ, allowed, failed};
use crate::app::App;
use crate::connectors::{Connector, Fault, Provider, Source};
use crate::http::error::ApiError;
use crate::http::extract::Reply;

/// A connector to be tried out: the one that is stored, or settings that are not.
pub(in crate::http::graph) struct Tried {
    provider: Provider,
    request: TrialRequest,
}

impl<S: Send + Sync> FromRequest<S> for Tried {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (mut parts, body) = taken(request).await?;
        let name = Path::<String>::from_request_parts(&mut parts, state).await;
        let name = name.map_or_else(|_| String::new(), |Path(name)| name);
        let provider = Provider::named(&name);
        let provider = provider.ok_or_else(|| ApiError::not_found("Not Found"))?;
        let request = TrialRequest::parse(provider, &document(&parts, &body)?)?;
        Ok(Self { provider, request })
    }
}

/// POST /_admin/connectors/{provider}/test.
pub(in crate::http::graph) async fn try_out(
    State(app): State<App>,
    Who(caller): Who,
    tried: Tried,
) -> Result<Reply<Value>, ApiError> {
    let Tried { provider, request: TrialRequest { tenant_id, settings } } = tried;
    let tenant = app.administered(&caller, tenant_id.as_deref())?;
    let read = match settings {
        Some(settings) => {
            allowed(&app, &caller, provider, &settings)?;
            read_once(&app, provider, &Connector::unsaved(settings)).await
        }
        None => {
            let stored = app.connectors.get(&tenant, provider.as_str()).await;
            let stored = stored.map_err(|error| failed(error, NOT_READ))?;
            read_once(&app, provider, &stored).await
        }
    };
    Ok(Reply(match read {
        Ok(objects_found) => json!({
            "status": "success",
            "message": format!("Successfully connected to {}", called(provider)),
            "objects_found": objects_found,
        }),
        Err(fault) => json!({
            "status": "error",
            "error_type": fault.class.as_str(),
            "message": fault.message,
        }),
    }))
}

/// Lists the beginning of a source and looks at one object; how many were seen.
async fn read_once(app: &App, provider: Provider, connector: &Connector) -> Result<usize, Fault> {
    let source = Source::open(provider, connector, &app.sources)?;
    let page = source.list(None, None, 1).await?;
    if let Some(first) = page.found.first() {
        source.stat(&first.uri).await?;
    }
    Ok(page.found.len())
}

fn called(provider: Provider) -> &'static str {
    match provider {
        Provider::S3 => "S3 bucket",
        Provider::Gcs => "GCS bucket",
        Provider::Drive => "Google Drive",
        Provider::Azure => "Azure container",
        Provider::Local => "local folder",
        Provider::Http => "web pages",
    }
}
