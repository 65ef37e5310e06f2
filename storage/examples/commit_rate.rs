//! How many durable changes a second the store takes, and how many rows.
//!
//! `cargo run --release -p activekg-storage --example commit_rate -- [DIR] [SECONDS]`
//!
//! DIR is where the store is made and should be on the disk in question; without it, the system's
//! temporary directory. Prints one line for each number of clients, then one for large batches.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use activekg_storage::queue::{self, NewJob, QueueDef};
use activekg_storage::tables::Json;
use activekg_storage::tables::graph::{
    EVENTS, EmbeddingStatus, EventRecord, NODE_EVENTS, NODES, NodeRecord, add_count,
};
use activekg_storage::{
    Change, ChangeKind, Clock, EventId, JobId, NodeId, StorageError, Store, StoreOptions,
    SystemClock, TenantId, WriteTx,
};

const EMBED: QueueDef = QueueDef {
    name: "embed",
    lease: Duration::from_secs(300),
    max_attempts: 5,
    backoff_base: Duration::from_secs(1),
    backoff_cap: Duration::from_secs(60),
};

/// What the creation of a node writes.
fn create(tx: &mut WriteTx<'_>, tenant: &TenantId) -> Result<(), StorageError> {
    let now = SystemClock.now();
    let (node, event) = (NodeId::at(now), EventId::at(now));
    let record = NodeRecord {
        classes: vec!["Document".to_owned()],
        props: Json(r#"{"title":"A title","text":"About a hundred bytes of text, so that rows have a size like those in use."}"#.to_owned()),
        payload_ref: None,
        metadata: Json::default(),
        refresh_policy: Json::default(),
        triggers: Vec::new(),
        external_id: None,
        version: 1,
        embedding_status: EmbeddingStatus::Queued,
        embedding_error: None,
        embedding_attempts: 0,
        embedding_updated_at: Some(now),
        last_refreshed: None,
        drift_score: None,
        deleted: false,
        text_revision: 1,
        created_at: now,
        updated_at: now,
    };
    tx.put(&NODES, &(tenant.clone(), node), &record)?;
    let happened = EventRecord {
        node,
        kind: "created".to_owned(),
        payload: Json::default(),
        actor_id: None,
        actor_type: Some("api".to_owned()),
    };
    tx.put(&EVENTS, &(tenant.clone(), now, event), &happened)?;
    tx.put(&NODE_EVENTS, &(tenant.clone(), node, now, event), &())?;
    add_count(tx, tenant, "nodes", 1)?;
    tx.log(Change { at: now, tenant: tenant.clone(), kind: ChangeKind::NodeText(node) })?;
    let job = NewJob {
        id: JobId::at(now),
        tenant: tenant.clone(),
        key: Some(node.to_string()),
        payload: Vec::new(),
        run_at: None,
        now,
    };
    queue::enqueue(tx, &EMBED, job).map(drop)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let parent = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = args.next().map_or(Ok(3), |text| text.parse())?;
    let span = Duration::from_secs(seconds);
    for clients in [1, 8, 64, 256] {
        run(&parent, clients, span)?;
    }
    for (tenants, n_rows) in [(1, 1000), (100, 1000)] {
        batches(&parent, tenants, n_rows, span)?;
    }
    Ok(())
}

/// Every client creates one node after the other, each answered when it is durable.
fn run(parent: &std::path::Path, clients: usize, span: Duration) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir_in(parent)?;
    let store = Arc::new(Store::open(dir.path(), StoreOptions::default())?);
    let created = Arc::new(AtomicU64::new(0));
    let tenant = TenantId::new("acme")?;
    let started = Instant::now();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..clients {
            let (store, created, tenant) = (store.clone(), created.clone(), tenant.clone());
            tasks.spawn(async move {
                while started.elapsed() < span {
                    let tenant = tenant.clone();
                    store.write(move |tx| create(tx, &tenant)).await?;
                    created.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<(), StorageError>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok::<(), Box<dyn Error>>(())
    })?;
    let took = started.elapsed().as_secs_f64();
    let stats = store.stats();
    println!(
        "{clients:>4} clients: {:>7.0} creates/s, {:>8.0} rows/s, mean batch {:>6.1}, mean commit {:>5.2} ms",
        created.load(Ordering::Relaxed) as f64 / took,
        stats.rows as f64 / took,
        stats.batch_size_sum as f64 / stats.commits as f64,
        stats.commit_sum.as_secs_f64() * 1e3 / stats.commits as f64,
    );
    Ok(())
}

/// One client creates many nodes in each change.
fn batches(
    parent: &std::path::Path,
    tenants: usize,
    n_nodes: usize,
    span: Duration,
) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir_in(parent)?;
    let store = Store::open(dir.path(), StoreOptions::default())?;
    let names = (0..tenants).map(|n| TenantId::new(&format!("tenant-{n}")));
    let names: Arc<[TenantId]> = names.collect::<Result<_, _>>()?;
    let started = Instant::now();
    while started.elapsed() < span {
        let names = Arc::clone(&names);
        store.write_blocking(move |tx| {
            (0..n_nodes).try_for_each(|n| create(tx, &names[n % names.len()]))
        })?;
    }
    let took = started.elapsed().as_secs_f64();
    let stats = store.stats();
    println!(
        "{n_nodes} nodes a change, {tenants} tenants: {:>7.0} creates/s, {:>8.0} rows/s, mean commit {:>5.2} ms",
        (stats.changes as usize * n_nodes) as f64 / took,
        stats.rows as f64 / took,
        stats.commit_sum.as_secs_f64() * 1e3 / stats.commits as f64,
    );
    Ok(())
}
