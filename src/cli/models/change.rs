//! Changing the embedding model of a running server.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::queue::common::{Common, Consent};
use crate::cli::remote::Client;

/// Between two looks at the progress.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(super) struct ChangeArgs {
    /// The new model: all-MiniLM-L6-v2, the name of an added one, the path of a folder, or its name at a service
    model: String,
    /// Its embedder: sentence-transformers (in the server's process), openai or ollama [default: sentence-transformers]
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Address of its service
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Numbers in its vectors, where the model is not a known one
    #[arg(long, value_name = "N")]
    dimensions: Option<u32>,
    /// Return when all vectors are there, and show how far it is
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(super) struct CompareArgs {
    /// Queries to sample from the nodes: titles, or first sentences
    #[arg(long, value_name = "N", default_value_t = 100)]
    sample: u32,
    /// Queries to take instead, one a line; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "sample", requires = "tenant")]
    queries: Option<std::path::PathBuf>,
    /// The tenant whose nodes are searched for them
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(super) struct SwitchArgs {
    /// Leave out nodes whose text could not be embedded; they are queued again
    #[arg(long)]
    accept_missing: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(super) struct DropArgs {
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn change(args: &ChangeArgs) -> anyhow::Result<()> {
    let ChangeArgs { model, backend, base_url, dimensions, wait, common } = args;
    let server = common.remote.needed_server()?;
    // The server has a working directory of its own.
    let model = match model.starts_with('.') && common.remote.url.is_none() {
        true => std::path::absolute(model)?.display().to_string(),
        false => model.clone(),
    };
    let body = json!({
        "model": model, "backend": backend, "base_url": base_url, "dimensions": dimensions,
    });
    let mut answer = server.post("/admin/model/change", &body).await?;
    if *wait {
        answer = filled(&server).await?;
    }
    print(common, &answer, &status_text(&answer))
}

/// The status once all vectors are there.
async fn filled(server: &Client) -> anyhow::Result<Value> {
    let bar = match io::stderr().is_terminal() {
        true => ProgressBar::new(0),
        false => ProgressBar::hidden(),
    };
    let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} nodes {eta} {msg}");
    bar.set_style(style.context("make a progress bar")?);
    loop {
        let status = server.get("/admin/model").await?;
        let change = &status["change"];
        match change["phase"].as_str() {
            Some("filling") => {}
            Some(_) => {
                bar.finish_and_clear();
                return Ok(status);
            }
            None => bail!("the change was dropped"),
        }
        bar.set_length(change["nodes"].as_u64().unwrap_or(0));
        bar.set_position(change["checked"].as_u64().unwrap_or(0));
        bar.set_message(change["problem"].as_str().unwrap_or_default().to_owned());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

pub(super) async fn status(args: &StatusArgs) -> anyhow::Result<()> {
    let StatusArgs { common } = args;
    let answer = common.remote.needed_server()?.get("/admin/model").await?;
    print(common, &answer, &status_text(&answer))
}

pub(super) async fn compare(args: &CompareArgs) -> anyhow::Result<()> {
    let CompareArgs { sample, queries, tenant, common } = args;
    let server = common.remote.needed_server()?;
    let body = match queries {
        None => json!({ "sample": sample }),
        Some(path) => json!({ "queries": lines(path)?, "tenant_id": tenant }),
    };
    let answer = server.post("/admin/model/compare", &body).await?;
    print(common, &answer, &comparison_text(&answer))
}

/// The lines of a file that are not blank.
fn lines(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = match path == Path::new("-") {
        true => io::read_to_string(io::stdin().lock()),
        false => std::fs::read_to_string(path),
    };
    let text = text.with_context(|| format!("read {}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}

/// Exchanges the models: `way` is `switch` or `roll-back`.
pub(super) async fn switch(args: &SwitchArgs, way: &str) -> anyhow::Result<()> {
    let SwitchArgs { accept_missing, common } = args;
    let server = common.remote.needed_server()?;
    let body = json!({ "accept_missing": accept_missing });
    let answer = server.post(&format!("/admin/model/{way}"), &body).await?;
    print(common, &answer, &status_text(&answer))
}

pub(super) async fn drop_other(args: &DropArgs) -> anyhow::Result<()> {
    let DropArgs { consent, common } = args;
    let server = common.remote.needed_server()?;
    let status = server.get("/admin/model").await?;
    let Some((_, other)) = other_model(&status["change"]) else {
        bail!("no change of the embedding model is under way");
    };
    let name = other["name"].as_str().unwrap_or_default();
    consent.ask(&format!("remove all vectors of {name}"))?;
    let answer = server.delete("/admin/model/change").await?;
    print(common, &answer, &status_text(&answer))
}

/// The status in words, and what to do next.
fn status_text(status: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let serving = &status["serving"];
    let mut text =
        format!("serving  {} ({} numbers)\n", word(&serving["name"]), serving["dimensions"]);
    let change = &status["change"];
    let Some(phase) = change["phase"].as_str() else { return text };
    if let Some((role, other)) = other_model(change) {
        text += &format!("{role:<8} {} ({} numbers)\n", word(&other["name"]), other["dimensions"]);
    }
    text += &format!(
        "{phase:<8} {} of {} nodes looked at, {} vectors made, {} wait, {} failed\n",
        change["checked"], change["nodes"], change["embedded"], change["behind"], change["failed"]
    );
    if let Some(problem) = change["problem"].as_str() {
        text += &format!("problem  {problem}\n");
    }
    text += match phase {
        "filling" => "next     wait, or `activekg models drop` to give it up\n",
        "ready" => "next     `activekg models compare`, then `activekg models switch`\n",
        "switched" => {
            "next     `activekg models roll-back`, or `activekg models drop` to keep the new one for good\n"
        }
        _ => "",
    };
    text
}

/// The model that does not serve, with what it is in the change.
fn other_model(change: &Value) -> Option<(&'static str, &Value)> {
    let roles = [("to", "to come"), ("from", "before"), ("dropped", "dropped")];
    roles.into_iter().find_map(|(member, role)| {
        change.get(member).filter(|model| model.is_object()).map(|model| (role, model))
    })
}

fn comparison_text(answer: &Value) -> String {
    let mut text = format!(
        "{} queries: both find {:.1} % of the first ten alike, the first hit is the same for {:.1} %\n\n",
        answer["queries"],
        percent(&answer["overlap_at_10"]),
        percent(&answer["same_first_hit"]),
    );
    text += &format!("{:<8} {:<32} {:>12} {:>12}\n", "", "model", "own node MRR", "query p50");
    for (role, side) in [("serving", &answer["serving"]), ("other", &answer["other"])] {
        let mrr = side["own_node_mrr"].as_f64().map_or("-".to_owned(), |mrr| format!("{mrr:.4}"));
        let name = side["name"].as_str().unwrap_or("-");
        let time = side["query_p50_ms"].as_f64().unwrap_or(0.0);
        text += &format!("{role:<8} {name:<32} {mrr:>12} {:>12}\n", format!("{time:.1} ms"));
    }
    text
}

fn percent(share: &Value) -> f64 {
    share.as_f64().unwrap_or(0.0) * 100.0
}

/// Prints the server's answer, or `text` for people.
fn print(common: &Common, answer: &Value, text: &str) -> anyhow::Result<()> {
    let text = if common.json { format!("{answer}\n") } else { text.to_owned() };
    io::stdout().write_all(text.as_bytes()).context("write the answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_what_to_do_next() {
        let model = |name: &str| json!({"name": name, "dimensions": 384});
        let text = status_text(&json!({"serving": model("a"), "change": null}));
        assert_eq!(text, "serving  a (384 numbers)\n");
        let change = |phase: &str, role: &str| {
            json!({"phase": phase, role: model("b"), "checked": 5, "nodes": 9, "embedded": 4,
                "behind": 0, "failed": 0, "problem": "the service is away"})
        };
        let text = status_text(&json!({"serving": model("a"), "change": change("ready", "to")}));
        assert!(text.contains("to come  b (384 numbers)\nready    5 of 9 nodes"), "{text}");
        assert!(text.contains("the service is away") && text.contains("models switch"), "{text}");
        let text =
            status_text(&json!({"serving": model("a"), "change": change("switched", "from")}));
        assert!(text.contains("before   b") && text.contains("roll-back"), "{text}");
    }

    #[test]
    fn a_comparison_is_a_table() {
        let text = comparison_text(&json!({
            "queries": 3, "overlap_at_10": 0.5, "same_first_hit": 1.0,
            "serving": {"name": "a", "own_node_mrr": 0.75, "query_p50_ms": 1.25},
            "other": {"name": "b", "own_node_mrr": null, "query_p50_ms": 20.0},
        }));
        assert!(text.starts_with("3 queries: both find 50.0 % "), "{text}");
        let rows: Vec<Vec<&str>> =
            text.lines().skip(3).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows,
            [["serving", "a", "0.7500", "1.2", "ms"], ["other", "b", "-", "20.0", "ms"]]
        );
    }
}
