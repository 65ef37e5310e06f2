//! The process is killed before and after each of its writes that is made lasting, in turn, while it
//! takes in the files of a folder, exchanges keys, and purges. Started again it ends where it would
//! have ended: nothing is missing, nothing is there twice, nothing is left half done.
//!
//! `ACTIVEKG_TEST_CRASH_STEP` takes every so many-th of these moments; 1 takes all, which is some
//! minutes. Needs a C compiler, or says skipped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{Options, Request, Server};

/// Every so many-th moment.
const STEP: usize = 3;
/// How long a process that was killed may take to end.
const END_MAX: Duration = Duration::from_secs(20);

const V1: &str = "XJH_LEyC34c8orsnRbFR5Rvac7FF0J4ah30u7HIORXM=";
const V2: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const PURGE: &str = "/_admin/connectors/purge_deleted";

/// Something that takes several writes, on a data directory that is prepared for it.
struct Scene {
    options: Options,
    /// What it begins with; each moment begins with a copy.
    prepared: TempDir,
    /// Asks for it. It may be cut off.
    ask: fn(&Server) -> Option<()>,
    /// Waits until nothing is left to do, or the process has gone.
    settle: fn(&Server) -> Option<()>,
    /// What there is in the end.
    state: fn(&mut Server) -> Value,
}

impl Scene {
    fn play(self) {
        let shims = tempfile::tempdir().unwrap();
        let Some(shim) = shim(shims.path()) else {
            println!("skipped: there is no C compiler here");
            return;
        };
        let armed = shims.path().join("armed");
        let step = std::env::var("ACTIVEKG_TEST_CRASH_STEP").ok();
        let step = step.map_or(STEP, |step| step.parse().unwrap());
        let expected = self.at(None, &shim, &armed).1;
        let mut n_killed = 0;
        for at in (0..).step_by(step) {
            let (killed, state) = self.at(Some(at), &shim, &armed);
            assert_eq!(state, expected, "killed at {at}");
            if !killed {
                break;
            }
            n_killed += 1;
        }
        println!("killed at {n_killed} moments, every {step}. of them all");
        assert!(n_killed > 2, "it takes more writes than that");
    }

    /// Lets it happen with a kill at this moment, if there comes such a one; whether it did, and
    /// the end.
    fn at(&self, at: Option<usize>, shim: &Path, armed: &Path) -> (bool, Value) {
        let dir = tempfile::tempdir().unwrap();
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(self.prepared.path().join(".")).arg(dir.path());
        assert!(copy.status().unwrap().success());
        let mut options = self.options.clone().dir(dir.path());
        if let Some(at) = at {
            options = options
                .set("LD_PRELOAD", shim.to_str().unwrap())
                .set("CRASH_ARMED", armed.to_str().unwrap())
                .set("CRASH_AT", &at.to_string());
        }
        let mut server = options.start();
        fs::write(armed, "").unwrap();
        let acknowledged = (self.ask)(&server).is_some();
        let settled = acknowledged && (self.settle)(&server).is_some();
        fs::remove_file(armed).unwrap();
        let killed = !settled || !server.is_alive();
        if killed {
            assert!(at.is_some(), "nobody kills it");
            // It hung up a moment before it is gone, and keeps its data directory until then.
            let deadline = Instant::now() + END_MAX;
            while server.is_alive() {
                assert!(Instant::now() < deadline, "it is there and does not answer");
                thread::sleep(Duration::from_millis(5));
            }
            server.start_again(&[("LD_PRELOAD", ""), ("CRASH_AT", "")]);
            if !acknowledged {
                (self.ask)(&server).expect("it answers");
            }
            (self.settle)(&server).expect("it goes on");
        }
        (killed, (self.state)(&mut server))
    }
}

/// The library that kills, made in `dir`; `None` without a compiler.
fn shim(dir: &Path) -> Option<PathBuf> {
    let (source, library) = (dir.join("crash.c"), dir.join("crash.so"));
    fs::write(&source, include_str!("common/crash.c")).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]);
    let compiled = compiler.status().ok()?;
    assert!(compiled.success());
    Some(library)
}

/// Asks until the answer is as wished; `None` if nobody answers any more.
fn until(server: &Server, request: &Request, wish: impl Fn(&Value) -> bool) -> Option<()> {
    loop {
        let answer = request.send_to(server.addr()).ok()?;
        if wish(&answer.expect(200)) {
            return Some(());
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn post(server: &Server, target: &str, body: &Value) -> Option<Value> {
    Some(Request::post(target, body).send_to(server.addr()).ok()?.expect(200))
}

/// What the nodes of a tenant say, but for times, by what they are called.
fn nodes(server: &Server, tenant: &str) -> BTreeMap<String, Value> {
    let listed = server.get(&format!("/nodes?tenant_id={tenant}&limit=1000")).expect(200);
    let nodes = listed["nodes"].as_array().expect("nodes").iter();
    let ids = nodes.map(|node| node["id"].as_str().expect("an id").to_owned());
    let named = ids.map(|id| {
        let node = server.get(&format!("/nodes/{id}?tenant_id={tenant}")).expect(200);
        (id, json!({ "classes": node["classes"], "props": node["props"] }))
    });
    named.collect()
}

/// How many edges begin or end at each node of a tenant.
fn edges(server: &Server, nodes: &BTreeMap<String, Value>) -> BTreeMap<String, usize> {
    let of = |id: &String| {
        let lineage = server.get(&format!("/lineage/{id}")).expect(200);
        (id.clone(), lineage["ancestors"].as_array().map_or(0, Vec::len))
    };
    nodes.keys().map(of).collect()
}

#[test]
fn an_ingest_ends_the_same_wherever_it_is_killed() {
    let (prepared, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = files.path().canonicalize().unwrap();
    let options = Options::new(&[
        ("ACTIVEKG_FILE_BASEDIRS", folder.to_str().unwrap()),
        ("CONNECTOR_WORKER_POLL_INTERVAL", "0.05"),
        ("RUN_SCHEDULER", "false"),
    ]);
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write("stays.txt", "The ferry leaves at noon.");
    write("changes.txt", &"The kite rises. ".repeat(700));
    write("goes.txt", "The lamp is out.");
    let mut server = options.clone().dir(prepared.path()).start();
    let config = json!({ "tenant_id": "default", "config": { "path": folder } });
    server.post("/_admin/connectors/local/register", &config).expect(200);
    take_in(&server).unwrap();
    settled(&server).unwrap();
    assert!(server.terminate().success());
    write("changes.txt", "The kite falls.");
    write("comes.txt", &"A gull cries. ".repeat(700));
    fs::remove_file(folder.join("goes.txt")).unwrap();

    fn take_in(server: &Server) -> Option<()> {
        let path = server.get("/_admin/connectors/local?tenant_id=default").expect(200);
        let folder = path["config"]["path"].as_str().unwrap().to_owned();
        let names = ["stays", "changes", "goes", "comes"];
        let uris: Vec<String> =
            names.iter().map(|name| format!("file://{folder}/{name}.txt")).collect();
        let body = json!({ "tenant_id": "default", "dry_run": false, "uris": uris });
        post(server, "/_admin/connectors/local/ingest", &body).map(drop)
    }

    fn settled(server: &Server) -> Option<()> {
        let queue = Request::get("/_admin/connectors/local/queue-status?tenant_id=default");
        until(server, &queue, |status| status["pending"] == 0)?;
        let embedding = Request::get("/admin/queues/embedding");
        until(server, &embedding, |stats| {
            let depths = stats["depths"].as_object().expect("depths");
            depths.values().all(|depth| depth == 0)
        })
    }

    fn state(server: &mut Server) -> Value {
        let nodes = nodes(server, "default");
        let edges = edges(server, &nodes);
        let queue = server.get("/_admin/connectors/local/queue-status?tenant_id=default");
        let words = ["ferry", "kite rises", "kite falls", "lamp", "gull"].map(|words| {
            let search = json!({ "query": words, "mode": "bm25", "tenant_id": "default" });
            let found = server.post("/search", &search).expect(200);
            found["results"].as_array().expect("results").len()
        });
        json!({ "nodes": nodes, "edges": edges, "queue": queue.expect(200), "found": words })
    }

    Scene { options, prepared, ask: take_in, settle: settled, state }.play();
}

#[test]
fn an_exchange_of_keys_ends_the_same_wherever_it_is_killed() {
    const ROWS: usize = 6;
    let prepared = tempfile::tempdir().unwrap();
    let options = Options::new(&[("RUN_SCHEDULER", "false"), ("CONNECTOR_KEK_V1", V1)]);
    let mut server = options.clone().dir(prepared.path()).start();
    for n in 0..ROWS {
        let config = json!({ "bucket": "docs", "access_key_id": "AKIACANARYCANARY",
            "secret_access_key": "canary/canary/canary/canary/canary/canary" });
        let body = json!({ "tenant_id": format!("t{n}"), "config": config });
        server.post("/_admin/connectors/s3/register", &body).expect(200);
    }
    assert!(server.terminate().success());

    fn rotate(server: &Server) -> Option<()> {
        let body = json!({ "batch_size": 1 });
        post(server, "/_admin/connectors/rotate_keys", &body).map(drop)
    }

    fn state(server: &mut Server) -> Value {
        let keys = server.get("/_admin/connectors/keys").expect(200);
        assert_eq!((&keys["pending"], &keys["distribution"]), (&json!(0), &json!({ "2": ROWS })));
        assert!(server.terminate().success());
        server.start_again(&[("CONNECTOR_KEK_V1", "")]);
        let opened = (0..ROWS).map(|n| {
            server.get(&format!("/_admin/connectors/s3?tenant_id=t{n}")).expect(200)["config"]
                .clone()
        });
        opened.collect()
    }

    let options = options.set("CONNECTOR_KEK_V2", V2).set("CONNECTOR_KEK_ACTIVE_VERSION", "2");
    Scene { options, prepared, ask: rotate, settle: |_| Some(()), state }.play();
}

#[test]
fn a_purge_ends_the_same_wherever_it_is_killed() {
    let prepared = tempfile::tempdir().unwrap();
    let options = Options::new(&[("AUTO_EMBED_ON_CREATE", "false"), ("RUN_SCHEDULER", "false")]);
    let mut server = options.clone().dir(prepared.path()).start();
    for (tenant, name, deleted) in
        [("default", "gone", true), ("default", "there", false), ("acme", "gone", true)]
    {
        let mut classes = vec!["Document"];
        let mut props = json!({ "external_id": name, "title": name });
        if deleted {
            classes.push("Deleted");
            props["deletion_grace_until"] = json!("2020-01-01T00:00:00+00:00");
        }
        let mut nodes = vec![json!({ "classes": classes, "props": props })];
        nodes.extend((0..7).map(|n| {
            let props =
                json!({ "parent_id": name, "chunk_index": n, "text": format!("{name} {n}") });
            json!({ "classes": ["Chunk"], "props": props })
        }));
        let body = json!({ "tenant_id": tenant, "nodes": nodes });
        server.post("/nodes/batch", &body).expect(200);
    }
    assert!(server.terminate().success());

    fn purge(server: &Server) -> Option<()> {
        post(server, PURGE, &json!({ "batch_size": 2 })).map(drop)
    }

    fn state(server: &mut Server) -> Value {
        let receipts = Options::new(&[]).command(server.dir(), &["purge", "receipts"]).output();
        let receipts = String::from_utf8(receipts.unwrap().stdout).unwrap();
        let words = receipts.split(|c: char| !c.is_ascii_hexdigit() && c != '-');
        // Runs have ids as well, of another version.
        let is_node = |word: &&str| word.len() == 36 && word.as_bytes()[14] == b'7';
        let mut removed: Vec<&str> = words.filter(is_node).collect();
        removed.sort_unstable();
        json!({ "left": [nodes(server, "default"), nodes(server, "acme")], "removed": removed })
    }

    Scene { options, prepared, ask: purge, settle: |_| Some(()), state }.play();
}
