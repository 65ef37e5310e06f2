//! How a surface words its errors.

use std::error::Error;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::error::{ApiError, Detail, ErrorKind};
use super::json;
use super::request_id::RequestId;
use super::validate::Item;

/// Type of JSON answers.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Type of plain answers.
pub const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Faults of a request that one sentence tells at most.
const FAULTS_TOLD_MAX: usize = 5;

/// Code of a JSON-RPC error that is the transport's.
const RPC_SERVER_ERROR: i32 = -32000;

/// The shape of error bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `{"detail": ..}`, and plain text for an oversize body and for what nobody expected.
    Detail,
    /// `{"detail": ..}` for what nobody expected too.
    Administration,
    /// `{"error": {"message", "type", "param", "code"}}` as OpenAI's clients read it, which know
    /// 400 and not 422 for wrong fields.
    OpenAi,
    /// A JSON-RPC error that answers no request in particular.
    JsonRpc,
}

/// Marks an answer that carries no request id: the process could not say what happened.
#[derive(Debug, Clone, Copy)]
pub struct Anonymous;

impl Dialect {
    /// The status for errors of `kind`.
    pub fn status(self, kind: ErrorKind) -> StatusCode {
        match (self, kind) {
            (Self::OpenAi | Self::JsonRpc, ErrorKind::Invalid) => StatusCode::BAD_REQUEST,
            _ => kind.status(),
        }
    }

    /// The whole answer for `error`.
    pub fn render(self, error: &ApiError, request: &RequestId) -> Response {
        let status = self.status(error.kind);
        let mut response = match self {
            Self::Detail => detail(error, request),
            Self::Administration => administration(error, request),
            Self::OpenAi => {
                with_type(status, JSON, Body::from(json::to_vec(&open_ai(error, request))))
            }
            Self::JsonRpc => {
                let error =
                    json!({ "code": RPC_SERVER_ERROR, "message": sentence(error, request) });
                let body = json!({ "jsonrpc": "2.0", "id": null, "error": error });
                with_type(status, JSON, Body::from(json::to_vec(&body)))
            }
        };
        response.headers_mut().extend(error.headers.as_ref().clone());
        response
    }
}

/// What the client is told of `error`, as a sentence.
pub fn sentence(error: &ApiError, request: &RequestId) -> String {
    match (error.kind, &error.detail) {
        (ErrorKind::Unhandled, _) => format!("Internal error, request {request}"),
        (ErrorKind::Internal, Detail::Text(prefix)) => {
            format!("{prefix}: internal error, request {request}")
        }
        (_, Detail::Text(text)) => text.to_string(),
        (_, Detail::Items(items)) => {
            let told: Vec<String> =
                items.iter().take(FAULTS_TOLD_MAX).map(Item::sentence).collect();
            told.join("; ")
        }
    }
}

fn detail(error: &ApiError, request: &RequestId) -> Response {
    let ApiError { kind, detail, more, headers: _, source: _ } = error;
    match (kind, detail) {
        (ErrorKind::Unhandled, _) => {
            let mut response = plain(kind.status(), "Internal Server Error");
            response.extensions_mut().insert(Anonymous);
            response
        }
        (ErrorKind::TooLarge, Detail::Text(text)) => plain(kind.status(), text.to_string()),
        (_, Detail::Text(_)) => body(kind.status(), sentence(error, request).into(), more),
        (_, Detail::Items(items)) => {
            body(kind.status(), items.iter().map(Item::to_value).collect(), more)
        }
    }
}

/// The id of the request is in its header, and the body is in the words of the contract.
fn administration(error: &ApiError, request: &RequestId) -> Response {
    match (error.kind, &error.detail) {
        (ErrorKind::Unhandled, _) => {
            body(error.kind.status(), "Internal Server Error".into(), &error.more)
        }
        (ErrorKind::Internal, Detail::Text(text)) => {
            body(error.kind.status(), text.as_ref().into(), &error.more)
        }
        _ => detail(error, request),
    }
}

/// An error as OpenAI's clients read it.
pub fn open_ai(error: &ApiError, request: &RequestId) -> Value {
    let (kind, code) = match error.kind {
        ErrorKind::Unauthorized => ("invalid_request_error", Some("invalid_api_key")),
        ErrorKind::Forbidden => ("permission_error", None),
        ErrorKind::TooMany => ("rate_limit_error", Some("rate_limit_exceeded")),
        ErrorKind::BadRequest
        | ErrorKind::NotFound
        | ErrorKind::MethodNotAllowed
        | ErrorKind::Timeout
        | ErrorKind::Conflict
        | ErrorKind::TooLarge
        | ErrorKind::UnsupportedMediaType
        | ErrorKind::Invalid => ("invalid_request_error", None),
        ErrorKind::NotConfigured
        | ErrorKind::Internal
        | ErrorKind::Unhandled
        | ErrorKind::Unavailable
        | ErrorKind::BadGateway
        | ErrorKind::InsufficientStorage => ("server_error", None),
    };
    let param = match &error.detail {
        Detail::Items(items) => items.first().and_then(Item::place),
        Detail::Text(_) => None,
    };
    let message = sentence(error, request);
    json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
}

/// Logs what the client is not told. Faults of the client are its own business.
pub fn log(error: &ApiError, request: &RequestId, route: &str) {
    let status = error.kind.status();
    if !status.is_server_error() {
        return;
    }
    let mut cause = String::new();
    let mut next: Option<&(dyn Error + 'static)> =
        error.source.as_deref().map(|source| source as &(dyn Error + 'static));
    while let Some(source) = next {
        if !cause.is_empty() {
            cause.push_str(": ");
        }
        cause.push_str(&source.to_string());
        next = source.source();
    }
    let text = match &error.detail {
        Detail::Text(text) => text.as_ref(),
        Detail::Items(_) => "",
    };
    let status = status.as_u16();
    if matches!(error.kind, ErrorKind::Internal | ErrorKind::Unhandled) {
        tracing::error!(request.id = %request, http.route = route, http.status = status, "request failed: {text} {cause}");
    } else {
        tracing::warn!(request.id = %request, http.route = route, http.status = status, "request refused: {text} {cause}");
    }
}

fn body(status: StatusCode, detail: Value, more: &[(&str, Value)]) -> Response {
    let mut body = Map::new();
    body.insert("detail".to_owned(), detail);
    body.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    with_type(status, JSON, Body::from(json::to_vec(&body)))
}

fn plain(status: StatusCode, text: impl Into<Body>) -> Response {
    with_type(status, PLAIN, text.into())
}

/// An answer of a status, a type and a body.
pub(super) fn with_type(status: StatusCode, kind: HeaderValue, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use axum::http::HeaderMap;

    use super::*;

    async fn rendered(dialect: Dialect, error: ApiError) -> (u16, Value) {
        let response = dialect.render(&error, &RequestId::of(&HeaderMap::new()));
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("a whole body");
        (status, serde_json::from_slice(&bytes).expect("JSON"))
    }

    fn faults() -> ApiError {
        let loc = |place: &[&str]| place.iter().map(|step| Value::from(*step)).collect();
        ApiError::invalid(vec![
            Item::new("missing", loc(&["body", "input"]), "Field required", Value::Null),
            Item::new("missing", loc(&["body"]), "Field required", Value::Null),
        ])
    }

    #[tokio::test]
    async fn clients_of_open_ai_read_a_message_and_a_place() {
        let (status, body) = rendered(Dialect::OpenAi, faults()).await;
        let expected = json!({ "message": "input: Field required; Field required",
            "type": "invalid_request_error", "param": "input", "code": null });
        assert_eq!((status, &body["error"]), (400, &expected));
        let (status, body) = rendered(Dialect::OpenAi, ApiError::unauthorized("no token")).await;
        assert_eq!((status, &body["error"]["code"]), (401, &json!("invalid_api_key")));
        let (status, body) = rendered(Dialect::OpenAi, ApiError::unhandled("secret")).await;
        let message = body["error"]["message"].as_str().expect("a message");
        assert_eq!(status, 500);
        assert!(message.starts_with("Internal error, request ") && !message.contains("secret"));
    }

    #[tokio::test]
    async fn a_refusal_in_json_rpc_answers_no_request_in_particular() {
        let (status, body) = rendered(Dialect::JsonRpc, ApiError::too_many("later", 1)).await;
        let error = json!({ "code": -32000, "message": "later" });
        assert_eq!((status, body), (429, json!({ "jsonrpc": "2.0", "id": null, "error": error })));
    }

    #[tokio::test]
    async fn the_graph_s_own_errors_have_a_detail() {
        let (status, body) = rendered(Dialect::Detail, faults()).await;
        assert_eq!((status, &body["detail"][0]["loc"]), (422, &json!(["body", "input"])));
        let error = ApiError::internal("Search failed", "secret");
        let (status, body) = rendered(Dialect::Detail, error).await;
        let detail = body["detail"].as_str().expect("a sentence");
        assert_eq!(status, 500);
        assert!(detail.starts_with("Search failed: internal error, request "), "{detail}");
    }
}
