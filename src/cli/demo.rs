//! `activekg demo`: a small real corpus, loaded, searched and asked through the HTTP API.

mod client;
mod corpus;
mod show;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::config::{Config, Options};
use crate::observability::{build_info, logs};
use crate::{shutdown, startup};
use client::Client;
use corpus::Corpus;

/// The port of `serve`, so that the lines printed here work there too.
const PORT: u16 = 8000;
/// Nodes of one request; the bar moves with each.
const BATCH: usize = 32;
/// Edges sent at once.
const EDGES_AT_ONCE: usize = 16;
/// Between two looks at the embedding queue.
const LOOK: Duration = Duration::from_millis(100);
/// Longest wait for the embeddings; seconds are usual.
const EMBEDDED_MAX: Duration = Duration::from_secs(600);

/// Load a small real corpus into a fresh server, search it, ask it something
///
/// The corpus is the World Factbook (public domain, 2015): a document a country, territory and ocean, with
/// the land borders between them as edges. The server runs in this process on a temporary folder that is
/// removed at the end. It uses none of the settings of `serve`.
#[derive(Args)]
pub(super) struct DemoArgs {
    /// End after the results instead of serving until Ctrl-C
    #[arg(long)]
    exit: bool,
    /// Port on 127.0.0.1 [default: 8000, or a free one when that is taken]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

pub(super) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let corpus = Corpus::load()?;
    let folder = TemporaryFolder::new()?;
    let config = settings(&folder.0, args.port.unwrap_or_else(free_port))?;
    logs::init(&config.observability)?;
    let outcome = super::runtime()?.block_on(async {
        let started = Instant::now();
        let server = startup::start(config).await?;
        let address = server.addr;
        println!(
            "activekg {} on http://{address}, ready in {} ms",
            build_info::FULL,
            started.elapsed().as_millis()
        );
        let client = Client::new(address)?;
        // Ctrl-C works during the tour as well.
        let outcome = tokio::select! {
            outcome = tour(&client, &corpus, address, args.exit) => match outcome {
                Ok(()) if !args.exit => shutdown::signalled().await.context("listen for signals"),
                outcome => outcome,
            },
            stopped = shutdown::signalled() => stopped.context("listen for signals"),
        };
        server.stop().await;
        outcome
    });
    drop(folder);
    outcome
}

/// Loads, searches, asks.
async fn tour(
    client: &Client,
    corpus: &Corpus,
    address: SocketAddr,
    exit: bool,
) -> anyhow::Result<()> {
    let ids = load(client, corpus).await?;
    let searches = [
        (
            "By meaning (no word of the question has to occur)",
            json!({"query": "desert monarchy grown rich on oil", "top_k": 3}),
        ),
        (
            "By meaning and by words",
            json!({"query": "Lake Titicaca highland plateau", "use_hybrid": true, "top_k": 3}),
        ),
        (
            "By meaning, among landlocked countries of Africa only",
            json!({
                "query": "copper mining", "use_hybrid": true, "top_k": 3,
                "metadata_filters": {"region": "Africa", "landlocked": true},
            }),
        ),
    ];
    for (title, request) in &searches {
        let found = client.post("/search", request).await?;
        show::search(title, address, request, &found)?;
    }
    let request = json!({"question": "Who conquered the Inca Empire?"});
    let answer = client.post("/ask", &request).await?;
    let titles = ids.iter().map(String::as_str).zip(corpus.titles()).collect();
    show::answer(address, &request, &answer, &titles)?;
    show::next(address, exit);
    Ok(())
}

/// Nodes in batches, then edges, then the wait for the embeddings. Gives the ids of the nodes.
async fn load(client: &Client, corpus: &Corpus) -> anyhow::Result<Vec<String>> {
    let began = Instant::now();
    let n_nodes = corpus.nodes.len();
    let bar = bar("documents", n_nodes)?;
    let mut ids = Vec::with_capacity(n_nodes);
    for batch in corpus.nodes.chunks(BATCH) {
        ids.extend(client.create(batch).await?);
        bar.set_position(ids.len() as u64);
    }
    bar.finish();

    let bar = self::bar("borders", corpus.edges.len())?;
    stream::iter(&corpus.edges)
        .map(|edge| {
            let request = json!({
                "src": ids[edge.src], "dst": ids[edge.dst], "rel": edge.rel, "props": edge.props,
            });
            let bar = &bar;
            async move {
                client.post("/edges", &request).await?;
                bar.inc(1);
                anyhow::Ok(())
            }
        })
        .buffer_unordered(EDGES_AT_ONCE)
        .try_collect::<()>()
        .await?;
    bar.finish();

    let bar = self::bar("embedded", n_nodes)?;
    let until = Instant::now() + EMBEDDED_MAX;
    loop {
        let status = client.embedded().await?;
        bar.set_position(status.ready);
        if status.failed > 0 {
            bail!("{} documents could not be embedded", status.failed);
        }
        if status.ready as usize >= n_nodes {
            break;
        }
        if Instant::now() > until {
            bail!("{} of {n_nodes} documents are embedded after {EMBEDDED_MAX:?}", status.ready);
        }
        tokio::time::sleep(LOOK).await;
    }
    bar.finish();
    println!(
        "{n_nodes} documents and {} borders of the World Factbook (2015) loaded and embedded in {:.1} s",
        corpus.edges.len(),
        began.elapsed().as_secs_f64()
    );
    Ok(ids)
}

fn bar(name: &'static str, n: usize) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("  {prefix:<10} {bar:40} {pos}/{len}")
        .context("shape the progress bar")?;
    Ok(ProgressBar::new(n as u64).with_style(style).with_prefix(name))
}

/// Everything at its default but the folder, the port, and creates that do not wait: the bar shows
/// the embedding instead.
fn settings(folder: &Path, port: u16) -> anyhow::Result<Config> {
    let folder = folder.to_str().context("the temporary folder has no UTF-8 name (TMPDIR)")?;
    let options = Options::from_lookup(|variable| match variable {
        "ACTIVEKG_DATA_DIR" => Some(folder.to_owned()),
        "ACTIVEKG_BIND" => Some(format!("127.0.0.1:{port}")),
        "EMBEDDING_ASYNC" => Some("true".to_owned()),
        "LLM_BACKEND" => Some("extractive".to_owned()),
        "LOG_LEVEL" => Some("WARNING".to_owned()),
        _ => None,
    })?;
    Ok(Config::new(&options)?)
}

/// The usual port, or 0 for a free one when it is taken.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).map_or(0, |_| PORT)
}

/// A folder that is removed when the demo ends.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new() -> anyhow::Result<Self> {
        let path =
            std::env::temp_dir().join(format!("activekg-demo-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("make {} (TMPDIR)", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("activekg: {} is left behind: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_is_open_on_loopback_and_uses_no_other_setting() {
        let config = settings(Path::new("/tmp/demo"), 7).unwrap();
        assert_eq!(config.server.bind.to_string(), "127.0.0.1:7");
        assert!(config.auth.jwt.is_none() && config.embedding.asynchronous);
        assert_eq!(config.notices, Vec::<String>::new());
    }

    #[test]
    fn the_folder_goes_with_the_demo() {
        let folder = TemporaryFolder::new().unwrap();
        let path = folder.0.clone();
        std::fs::write(path.join("data"), "x").unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
