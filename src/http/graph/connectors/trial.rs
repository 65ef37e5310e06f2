//! Trying out whether a connector can read its source.

use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use serde_json::{Value, json};

use super::super::access::Who;
use super::super::wire::connectors::{Look, TrialRequest};
use super::body::{document, taken};
use super::{NOT_READ, allowed, failed};
use crate::app::App;
use crate::connectors::{Connector, Fault, Found, Provider, Source};
use crate::documents::Kind;
use crate::http::error::ApiError;
use crate::http::extract::Reply;
use crate::timestamp::iso;

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
    let Tried { provider, request: TrialRequest { tenant_id, settings, look } } = tried;
    let tenant = app.administered(&caller, tenant_id.as_deref())?;
    let read = match settings {
        Some(settings) => {
            allowed(&app, &caller, provider, &settings)?;
            seen(&app, provider, &Connector::unsaved(settings), look).await
        }
        None => {
            let stored = app.connectors.get(&tenant, provider.as_str()).await;
            let stored = stored.map_err(|error| failed(error, NOT_READ))?;
            seen(&app, provider, &stored, look).await
        }
    };
    Ok(Reply(match read {
        Ok(seen) => {
            let message = format!("Successfully connected to {}", called(provider));
            let mut answer = json!({ "status": "success", "message": message });
            for (name, value) in seen {
                answer[name] = value;
            }
            answer
        }
        Err(fault) => json!({
            "status": "error",
            "error_type": fault.class.as_str(),
            "message": fault.message,
        }),
    }))
}

/// Looks at a source; what the answer says of it.
async fn seen(
    app: &App,
    provider: Provider,
    connector: &Connector,
    look: Look,
) -> Result<Vec<(&'static str, Value)>, Fault> {
    let source = Source::open(provider, connector, &app.sources)?;
    match look {
        Look::First => {
            let page = source.list(None, None, 1).await?;
            if let Some(first) = page.found.first() {
                source.stat(&first.uri).await?;
            }
            Ok(vec![("objects_found", page.found.len().into())])
        }
        Look::Below { prefix, limit } => {
            let page = source.list(Some(&prefix), None, limit).await?;
            let objects: Vec<Value> = page.found.iter().map(object).collect();
            Ok(vec![
                ("objects_found", objects.len().into()),
                ("objects", objects.into()),
                ("more", page.next.is_some().into()),
            ])
        }
        Look::At { uri, detect } => {
            let found = source.stat(&uri).await?.ok_or_else(|| Fault::missing(&uri))?;
            let mut shown = object(&found);
            if detect {
                let own = connector.shown().get("max_file_size_bytes").and_then(Value::as_u64);
                let max_bytes = own.unwrap_or(app.config.connectors.max_file_bytes);
                let bytes = source.fetch(&found, max_bytes).await?;
                shown["detected_type"] = Kind::content_type_by(&bytes).into();
            }
            Ok(vec![("objects_found", 1.into()), ("object", shown)])
        }
    }
}

fn object(found: &Found) -> Value {
    let Found { uri, title: _, etag, generation, modified_at, size, content_type, props: _ } =
        found;
    json!({
        "uri": uri,
        "size": size,
        "etag": etag,
        "generation": generation,
        "content_type": content_type,
        "modified_at": modified_at.map(|at| iso(at.get())),
    })
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
