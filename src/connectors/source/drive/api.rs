//! Requests to Drive.

use reqwest::header::AUTHORIZATION;
use reqwest::{Method, Request, Response, StatusCode, Url};
use serde_json::Value;

use crate::connectors::source::google::Tokens;
use crate::connectors::source::{Fault, FaultClass, SourceParts, rest};

const SERVICE: &str = "https://www.googleapis.com";
/// Reasons for which Drive refuses with 403 what it would let through later.
const TOO_MUCH: [&str; 3] = ["rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded"];
/// Longest refusal that is read.
const REFUSAL_MAX: u64 = 64 << 10;

/// Drive, as an account sees it.
pub(super) struct Api {
    parts: SourceParts,
    service: Url,
    tokens: Tokens,
}

impl Api {
    pub(super) fn new(tokens: Tokens, parts: &SourceParts) -> Result<Self, Fault> {
        let service = match &parts.0.drive_api {
            Some(service) => service.clone(),
            None => SERVICE.parse().map_err(|_| not_drive())?,
        };
        Ok(Self { parts: parts.clone(), service, tokens })
    }

    /// The answer to a request, if it is one of success. A token that is refused is asked for anew
    /// once, since the account's key may have been replaced meanwhile.
    pub(super) async fn get(&self, path: &str, query: &str) -> Result<Response, Fault> {
        let mut url = self.service.clone();
        url.set_path(&format!("/drive/v3/{path}"));
        url.set_query(Some(query));
        let mut again = true;
        loop {
            let mut request = Request::new(Method::GET, url.clone());
            request.headers_mut().insert(AUTHORIZATION, self.tokens.bearer().await?);
            let response = self.parts.0.client.execute(request).await;
            let response = response.map_err(|error| rest::unanswered(&error))?;
            match response.status() {
                status if status.is_success() => return Ok(response),
                StatusCode::UNAUTHORIZED if again => {
                    again = false;
                    self.tokens.forget();
                }
                StatusCode::FORBIDDEN => return Err(forbidden(response).await),
                status => return Err(rest::refused(status, response.headers())),
            }
        }
    }

    pub(super) async fn json(&self, path: &str, query: &str) -> Result<Value, Fault> {
        let answer = rest::answer(self.get(path, query).await?).await?;
        serde_json::from_slice(&answer).map_err(|_| not_drive())
    }
}

/// What a refusal means: its reasons are words of the interface.
async fn forbidden(response: Response) -> Fault {
    let fault = rest::refused(response.status(), response.headers());
    let body = rest::body(response, REFUSAL_MAX).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let errors = body.pointer("/error/errors").and_then(Value::as_array);
    let mut reasons =
        errors.into_iter().flatten().filter_map(|error| error.get("reason")?.as_str());
    if reasons.any(|reason| TOO_MUCH.contains(&reason)) {
        return Fault {
            class: FaultClass::RateLimited,
            message: "the service answers 403: too much was asked of it".to_owned(),
            ..fault
        };
    }
    fault
}

pub(super) fn not_drive() -> Fault {
    Fault::new(FaultClass::Network, "the service answers with something that Drive does not")
}
