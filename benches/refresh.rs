//! What does it cost to find the nodes that are due among a million that are not?
//!
//! ```sh
//! cargo bench --bench refresh -- --nodes 1000000 --due 100
//! ```
//!
//! Writes a store of nodes with a refresh policy, of which some are due, opens it again and times the
//! look that the scheduler takes: first on a cold store, then on a warm one; and beside it the look
//! at every node, which it stands in for. Prints one JSON object.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use activekg::graph::{FreeSpace, Graph, Settings};
use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::Json;
use activekg_storage::tables::graph::{DUE, DUE_OF, DueRecord, EmbeddingStatus, NODES, NodeRecord};
use activekg_storage::time::{ManualClock, UnixMicros};
use activekg_storage::{Readable, Scan, StorageError, Store, StoreOptions};
use serde_json::json;

/// The present of the bench, in microseconds.
const NOW: UnixMicros = UnixMicros(1_790_000_000_000_000);
const HOUR: i64 = 3_600_000_000;
/// Nodes written in one transaction.
const STEP: u64 = 20_000;
/// Looks of which the median counts.
const LOOKS: usize = 5;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("refresh: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let (mut nodes, mut due) = (1_000_000, 100);
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--nodes" => nodes = value.parse()?,
            "--due" => due = value.parse()?,
            _ => return Err(format!("there is no {flag}").into()),
        }
    }
    let dir = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let open = || Store::open(dir.path(), StoreOptions::default());
    let store = Arc::new(open()?);
    runtime.block_on(fill(&store, nodes, due))?;
    store.close();
    drop(store);

    let store = Arc::new(open()?);
    let space = FreeSpace::new(dir.path().to_owned(), Some(0))?;
    let graph = Graph::new(store.clone(), settings(), Arc::new(ManualClock::at(NOW)), space);
    let started = Instant::now();
    let next = runtime.block_on(graph.next_due())?;
    let cold = started.elapsed();
    assert!(next.is_some_and(|next| next < NOW), "nodes are due");
    let mut looks = Vec::new();
    for _ in 0..LOOKS {
        let started = Instant::now();
        runtime.block_on(graph.next_due())?;
        looks.push(started.elapsed());
    }
    looks.sort();
    let started = Instant::now();
    let (queued, _) = runtime.block_on(graph.refresh_due(None, 500))?;
    let cycle = started.elapsed();
    assert_eq!(queued.jobs.len() as u64, due, "all that is due is queued");
    let started = Instant::now();
    let scanned = store.read()?.scan(&NODES, Scan::all())?.count();
    let scan = started.elapsed();
    println!(
        "{}",
        json!({
            "nodes": scanned,
            "due": due,
            "first_look_ms": cold.as_secs_f64() * 1e3,
            "look_ms": looks[LOOKS / 2].as_secs_f64() * 1e3,
            "cycle_with_commit_ms": cycle.as_secs_f64() * 1e3,
            "scan_of_all_nodes_ms": scan.as_secs_f64() * 1e3,
        })
    );
    Ok(())
}

/// Nodes that were refreshed within the last hour, but for those that are due.
async fn fill(store: &Store, nodes: u64, due: u64) -> Result<(), StorageError> {
    let tenant = TenantId::new("bench").expect("a name");
    for first in (0..nodes).step_by(STEP as usize) {
        let tenant = tenant.clone();
        let last = nodes.min(first + STEP);
        let write = move |tx: &mut activekg_storage::WriteTx<'_>| -> Result<(), StorageError> {
            for n in first..last {
                let key = (tenant.clone(), NodeId::from_u128(u128::from(n)));
                // A fixed sequence that jumps about: the order of the ids is not that of the times.
                let within = (n.wrapping_mul(2_654_435_761) % 3_600_000_000) as i64;
                let is_due =
                    n % (nodes / due.max(1)).max(1) == 0 && n / (nodes / due.max(1)).max(1) < due;
                let refreshed = NOW.get() - if is_due { HOUR + within } else { within };
                let at =
                    UnixMicros(if is_due { refreshed + HOUR } else { NOW.get() + HOUR - within });
                tx.put(&NODES, &key, &record(n, UnixMicros(refreshed)))?;
                tx.put(&DUE, &(at, key.0.clone(), key.1), &())?;
                tx.put(&DUE_OF, &key, &DueRecord { at, failures: 0 })?;
            }
            Ok(())
        };
        store.write(write).await?;
    }
    Ok(())
}

fn record(n: u64, refreshed: UnixMicros) -> NodeRecord {
    NodeRecord {
        classes: vec!["Doc".to_owned()],
        props: Json::from(format!("{{\"text\":\"document {n} of the bench\"}}")),
        payload_ref: None,
        metadata: Json::from("{}".to_owned()),
        refresh_policy: Json::from("{\"interval\":\"1h\"}".to_owned()),
        triggers: Vec::new(),
        external_id: None,
        version: 1,
        embedding_status: EmbeddingStatus::Ready,
        embedding_error: None,
        embedding_attempts: 1,
        embedding_updated_at: Some(refreshed),
        last_refreshed: Some(refreshed),
        drift_score: Some(0.0),
        deleted: false,
        text_revision: 1,
        created_at: UnixMicros(0),
        updated_at: refreshed,
    }
}

fn settings() -> Settings {
    Settings::default()
}
