//! Trying out an archive: restoring it beside and asking the copy questions.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use activekg_storage::backup::{self as archive, Manifest, TableSum};
use activekg_storage::tables::graph::TENANTS;
use activekg_storage::time::SystemClock;
use activekg_storage::{Readable, Scan, Store, StoreOptions, TenantId};
use tempfile::TempDir;

use super::{Error, in_background};
use crate::graph::{self, EventQuery, FreeSpace, Graph, Listing, Node, View};
use crate::search;

/// Tenants that are looked at.
const TENANTS_MAX: usize = 20;

/// Nodes of a tenant that are looked at.
const NODES_MAX: usize = 50;

/// Events of a tenant that are looked at.
const EVENTS_MAX: usize = 50;

/// Steps that are followed from a node.
const DEPTH: u32 = 3;

/// What came of trying out an archive.
#[derive(Debug, Clone)]
pub struct Trial {
    /// What the archive holds.
    pub manifest: Manifest,
    /// How long restoring took, checks of the archive included.
    pub restored_in: Duration,
    /// How long everything took.
    pub took: Duration,
    /// Nodes that were read by id.
    pub nodes: usize,
    /// Nodes that were reached along edges.
    pub ancestors: usize,
    /// Events that were read.
    pub events: usize,
    /// Nodes that were found again by their words.
    pub found: usize,
}

/// Restores `archive` into a temporary folder in `beside`, opens it, checks and counts every row
/// against the manifest, reads some nodes, edges and events of every tenant, and finds nodes by
/// their words.
///
/// # Errors
///
/// The first thing that is not as it should be.
pub async fn trial(archive: Box<dyn Read + Send>, beside: &Path) -> Result<Trial, Error> {
    let started = Instant::now();
    let parent = beside.to_owned();
    let restored = in_background("backup-trial", move || restore(archive, &parent)).await??;
    let Copy { dir, store, manifest, restored_in } = restored;
    let store = Arc::new(store);
    let asked = ask(&store, dir.path()).await;
    store.close();
    // Removing many files blocks.
    in_background("backup-trial", move || drop(dir)).await?;
    let Asked { nodes, ancestors, events, found } = asked?;
    let took = started.elapsed();
    Ok(Trial { manifest, restored_in, took, nodes, ancestors, events, found })
}

/// A restored store, removed when dropped.
struct Copy {
    dir: TempDir,
    store: Store,
    manifest: Manifest,
    restored_in: Duration,
}

fn restore(archive: Box<dyn Read + Send>, beside: &Path) -> Result<Copy, Error> {
    let started = Instant::now();
    let dir = tempfile::Builder::new().prefix(".activekg-trial-").tempdir_in(beside);
    let dir = dir.map_err(Error::Target)?;
    let into = dir.path().join("data");
    let manifest = archive::restore(archive, &into, &mut archive::unattended)?;
    let restored_in = started.elapsed();
    let store = Store::open(&into, StoreOptions::default())?;
    let counted = archive::count(&store.read()?, &mut archive::unattended)?;
    // A store of an older format has been brought up to date, and has other tables now.
    if manifest.about.store_format == activekg_storage::FORMAT {
        let with_rows = |sums: &[TableSum]| -> Vec<TableSum> {
            sums.iter().filter(|sum| sum.rows > 0).cloned().collect()
        };
        if with_rows(&counted.unwrap_or_default()) != with_rows(&manifest.tables) {
            return Err(Error::Trial("its tables are not those of the archive".to_owned()));
        }
    }
    Ok(Copy { dir, store, manifest, restored_in })
}

#[derive(Default)]
struct Asked {
    nodes: usize,
    ancestors: usize,
    events: usize,
    found: usize,
}

/// Asks the copy what its users ask.
async fn ask(store: &Arc<Store>, dir: &Path) -> Result<Asked, Error> {
    let failed = |error: graph::Error| Error::Trial(error.to_string());
    let tenants = tenants(store)?;
    let settings =
        graph::Settings { auto_embed: false, report_jobs: false, ..graph::Settings::default() };
    let space = FreeSpace::new(dir.to_owned(), Some(0)).map_err(Error::Target)?;
    let graph = Graph::new(store.clone(), settings, Arc::new(SystemClock), space);
    let mut asked = Asked::default();
    let mut sample: Vec<Node> = Vec::new();
    for tenant in tenants {
        let view = View::of(tenant);
        let listing = Listing { limit: NODES_MAX, props: true, ..Listing::default() };
        let page = graph.list(&view, listing).await.map_err(failed)?;
        for listed in page.nodes {
            let node = graph.node(&view, listed.id).await.map_err(failed)?;
            if Some(&node.props) != listed.props.as_ref() {
                return Err(Error::Trial(format!("node {} is not what is listed", node.id)));
            }
            asked.nodes += 1;
            asked.ancestors += graph.lineage(&view, node.id, DEPTH).await.map_err(failed)?.len();
            if sample.iter().all(|known| known.id != node.id) {
                sample.push(node);
            }
        }
        let query = EventQuery { node: None, kind: None, limit: EVENTS_MAX };
        asked.events += graph.events(&view, query).await.map_err(failed)?.len();
    }
    let index = dir.join("words");
    let found = in_background("backup-trial", move || search::find_again(&index, &sample)).await?;
    asked.found = found.map_err(|error| Error::Trial(error.to_string()))?;
    Ok(asked)
}

fn tenants(store: &Store) -> Result<Vec<TenantId>, Error> {
    let snapshot = store.read()?;
    let rows = snapshot.scan(&TENANTS, Scan::all())?;
    let mut tenants = vec![TenantId::shared()];
    for row in rows.take(TENANTS_MAX) {
        let ((tenant,), _) = row?;
        if !tenants.contains(&tenant) {
            tenants.push(tenant);
        }
    }
    Ok(tenants)
}
