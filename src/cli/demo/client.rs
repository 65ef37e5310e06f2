//! The demo's side of the HTTP API.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// Longer than any request of the demo takes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Talks to the server of the demo.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
}

/// How far the embedding is.
pub(super) struct Embedded {
    pub(super) ready: u64,
    pub(super) failed: u64,
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> anyhow::Result<Self> {
        let http = crate::tls::plain().no_proxy().build().context("make a client")?;
        Ok(Self { http, base: format!("http://{address}") })
    }

    /// The answer to a request, which has to be a 200.
    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.http.post(format!("{}{path}", self.base));
        let request = request.header("content-type", "application/json").body(body.to_string());
        sent(request).await.with_context(|| format!("POST {path}"))
    }

    /// Creates nodes and gives their ids in the same order.
    pub(super) async fn create(&self, nodes: &[Value]) -> anyhow::Result<Vec<String>> {
        let answer = self.post("/nodes/batch", &json!({ "nodes": nodes })).await?;
        let results = answer["results"].as_array().context("the batch answered without results")?;
        let ids: Vec<String> =
            results.iter().filter_map(|result| result["id"].as_str()).map(str::to_owned).collect();
        ensure!(
            ids.len() == nodes.len(),
            "{} of {} documents were refused",
            nodes.len() - ids.len(),
            nodes.len()
        );
        Ok(ids)
    }

    /// How far the embedding is.
    pub(super) async fn embedded(&self) -> anyhow::Result<Embedded> {
        let path = "/admin/embedding/status";
        let status = sent(self.http.get(format!("{}{path}", self.base)))
            .await
            .with_context(|| format!("GET {path}"))?;
        let count = |state: &str| status["status_counts"][state].as_u64().unwrap_or(0);
        Ok(Embedded { ready: count("ready"), failed: count("failed") })
    }
}

async fn sent(request: RequestBuilder) -> anyhow::Result<Value> {
    let answer = request.timeout(TIMEOUT).send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    if status != StatusCode::OK {
        bail!("answered {status}: {text}");
    }
    serde_json::from_str(&text).context("the answer is not JSON")
}
