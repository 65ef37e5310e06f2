//! What connectors brought in is deleted, and goes for good.

use std::fs;

use activekg_storage::tables::graph::{EDGES, NODES, VECTORS};
use activekg_storage::{Readable as _, Scan, Store, StoreOptions};
use serde_json::{Value, json};

use super::at;
use super::site::Site;
use crate::common::Request;

const TENANTS: [&str; 2] = ["acme", "harbor"];
const FILES: [&str; 3] = ["gone.txt", "hand.txt", "kept.txt"];

/// The documents of a tenant that a search of either kind finds.
fn found(site: &Site, tenant: &str) -> [Vec<String>; 2] {
    ["bm25", "vector"].map(|mode| site.found_by(tenant, mode, "zeppelin over the harbour at dusk"))
}

fn pending(site: &Site, tenant: &str) -> Value {
    let status = at(&format!("local/queue-status?tenant_id={tenant}"));
    site.server.get(&status).expect(200)["pending"].clone()
}

/// All that requests can see of a tenant, but for how old it is.
fn seen(site: &Site, tenant: &str) -> Value {
    let nodes = site.server.get(&format!("/nodes?tenant_id={tenant}&limit=100")).expect(200);
    let documents = FILES.map(|name| site.document(tenant, name));
    json!([nodes, documents, found(site, tenant), pending(site, tenant)])
}

#[test]
fn a_purge_takes_everything_of_a_document_and_nothing_of_another_tenants() {
    let mut site = Site::new(&[("PURGER_RETENTION_DAYS", "0"), ("RUN_EMBEDDING_WORKER", "true")]);
    for name in FILES {
        site.write(name, &format!("The zeppelin of {name} is over the harbour at dusk."));
    }
    for tenant in TENANTS {
        site.register(tenant);
        site.take(tenant);
    }
    let embedding = Request::get("/admin/embedding/status");
    let counts = json!({ "ready": 6, "skipped": 6 });
    site.server.until(&embedding, |answer| answer.json()["status_counts"] == counts);
    for tenant in TENANTS {
        site.server.until(&embedding, |_| found(&site, tenant) == [FILES; 2]);
    }

    // The file of one is gone; somebody deletes another by hand while a change of it waits.
    fs::remove_file(site.folder.join("gone.txt")).unwrap();
    for tenant in TENANTS {
        site.touch(tenant, &["gone.txt"]);
    }
    site.switch("pause");
    for tenant in TENANTS {
        let uris = [site.uri("hand.txt")];
        site.ingest(&json!({ "tenant_id": tenant, "dry_run": false, "uris": uris }));
    }
    let by_hand = site.document("acme", "hand.txt")["id"].as_str().unwrap().to_owned();
    site.server.delete(&format!("/nodes/{by_hand}?tenant_id=acme")).expect(200);
    for tenant in TENANTS {
        let [words, meaning] = found(&site, tenant);
        assert!(![words, meaning].concat().contains(&"gone.txt".to_owned()), "hidden at once");
        assert_eq!(pending(&site, tenant), 1);
    }
    let others = seen(&site, "harbor");

    let purged = site.server.post(&at("purge_deleted"), &json!({ "tenant_id": "acme" }));
    let expected = json!({
        "purged_chunks": 2, "purged_parents": 2, "dry_run": false, "purged_edges": 2,
        "purged_versions": 0, "tenants_processed": 1, "total_purged": 4, "without_grace": 0,
    });
    assert_eq!(purged.expect(200), expected);
    assert_eq!(pending(&site, "acme"), 0, "the change that waited is of what is gone");
    assert_eq!(seen(&site, "harbor"), others, "another tenant's is as it was");

    // Had the change been kept, it would bring the document back now: its file is there.
    site.switch("resume");
    for tenant in TENANTS {
        assert_eq!(site.settled(tenant)["dlq"], 0);
    }
    assert_eq!(found(&site, "acme"), [["kept.txt"]; 2]);
    assert_eq!(found(&site, "harbor"), [["hand.txt", "kept.txt"]; 2]);
    let nodes = site.server.get("/nodes?tenant_id=acme&limit=100").expect(200);
    assert_eq!(nodes["total"], 2, "one document and its chunk: {nodes}");
    for (name, part) in
        [("gone.txt", ""), ("gone.txt", "%23chunk0"), ("hand.txt", ""), ("hand.txt", "%23chunk0")]
    {
        let external = format!("local:acme:{}/{name}{part}", site.folder.display());
        let query = format!("/nodes/by-external-id?tenant_id=acme&external_id={external}");
        assert_eq!(site.server.get(&query).status, 404, "{name}{part}");
    }
    for queue in ["connector:local", "embedding"] {
        let queue = site.server.get(&format!("/admin/queues/{queue}")).expect(200);
        let none = json!({ "ready": 0, "delayed": 0, "leased": 0, "held": 0, "dead": 0 });
        assert_eq!(queue["depths"], none, "{queue}");
    }

    assert!(site.server.terminate().success());
    let store = Store::open(site.server.dir(), StoreOptions::default()).unwrap();
    let snapshot = store.read().unwrap();
    let of = |tenant: &str| {
        let nodes = snapshot.scan(&NODES, Scan::all()).unwrap().map(|row| row.unwrap().0.0);
        let edges = snapshot.scan(&EDGES, Scan::all()).unwrap().map(|row| row.unwrap().0.0);
        let vectors = snapshot.scan(&VECTORS, Scan::all()).unwrap().map(|row| row.unwrap().0.0);
        let n = |rows: &mut dyn Iterator<Item = activekg_storage::TenantId>| {
            rows.filter(|owner| owner.as_str() == tenant).count()
        };
        (n(&mut { nodes }), n(&mut { edges }), n(&mut { vectors }))
    };
    assert_eq!((of("acme"), of("harbor")), ((2, 1, 1), (6, 3, 3)));
    drop(snapshot);
    store.close();
}
