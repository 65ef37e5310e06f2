//! Looking after a server and its data: the admin socket, and the commands over it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::common::token::JWT_ENV;
use crate::common::{Options, Request, Server};

#[test]
fn the_admin_socket_needs_no_token_and_belongs_to_its_user() {
    let mut server = Server::start(&JWT_ENV);
    assert_eq!(server.get("/nodes").status, 401);
    let socket = server.dir().join("admin.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

    let node = json!({ "classes": ["Doc"], "props": { "text": "by hand" }, "tenant_id": "acme" });
    Request::post("/nodes", &node).send_over(&socket).unwrap().expect(200);
    for (tenant, count) in [("acme", 1), ("other", 0)] {
        let list = Request::get(format!("/nodes?tenant_id={tenant}")).send_over(&socket).unwrap();
        assert_eq!(list.expect(200)["nodes"].as_array().unwrap().len(), count, "{tenant}");
    }
    Request::get("/debug/dbinfo").send_over(&socket).unwrap().expect(200);

    assert_eq!(server.terminate().code(), Some(0));
    assert!(!socket.exists(), "it is removed at the end");
    server.start_again(&[]);
    server.kill();
    assert!(socket.exists());
    server.start_again(&[]);
    Request::get("/nodes").send_over(&socket).unwrap().expect(200);
}

#[test]
fn the_admin_socket_knows_no_rate() {
    let rates = [
        ("RATE_LIMIT_ENABLED", "true"),
        ("RATE_LIMIT_SEARCH_RATE", "1"),
        ("RATE_LIMIT_SEARCH_BURST", "1"),
    ];
    let server = Server::start(&rates);
    let socket = server.dir().join("admin.sock");
    let search = Request::post("/search", &json!({ "query": "anything", "mode": "bm25" }));
    for _ in 0..20 {
        assert_eq!(search.send_over(&socket).unwrap().status, 200);
    }
    assert!((0..20).any(|_| server.send(&search).status == 429));
}

#[test]
fn a_server_starts_without_its_socket_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("admin.sock"), "a note").unwrap();
    let server = Options::new(&[]).dir(dir.path()).start();
    server.logged("no admin socket");
    assert_eq!(fs::read(dir.path().join("admin.sock")).unwrap(), b"a note");
}

#[test]
fn deep_directories_have_a_socket_too() {
    let own = tempfile::tempdir().unwrap();
    let dir = own.path().join("a".repeat(80)).join("b".repeat(80));
    let server = Options::new(&[]).dir(&dir).start();
    assert!(dir.join("admin.sock").exists(), "{}", server.log());
    // Too long for whoever takes the path as it is.
    assert!(UnixListener::bind(dir.join("x.sock")).is_err());
}

/// Runs `activekg <line>` on `dir`: its exit code, what it printed, what it said on stderr.
fn run(dir: &Path, line: &str) -> (i32, String, String) {
    let words: Vec<&str> = line.split(' ').collect();
    let output = Options::new(&[]).command(dir, &words).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// As [`run`], for a command that must do well and prints JSON.
#[track_caller]
fn run_json(dir: &Path, line: &str) -> Value {
    let (code, stdout, stderr) = run(dir, line);
    assert_eq!(code, 0, "{stdout}{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

/// Makes nodes without anything to embed, and returns their ids.
fn fill(server: &Server, numbers: std::ops::Range<u32>, bytes: usize) -> Vec<String> {
    let numbers: Vec<u32> = numbers.collect();
    let mut ids = Vec::new();
    for part in numbers.chunks(100) {
        let node = |n: &u32| {
            let mark = format!("<mark {n:06}>{}", "x".repeat(bytes));
            json!({ "classes": ["Doc"], "props": { "n": n, "mark": mark } })
        };
        let nodes: Vec<Value> = part.iter().map(node).collect();
        let answer = server.post("/nodes/batch", &json!({ "nodes": nodes })).expect(200);
        let results = answer["results"].as_array().unwrap();
        ids.extend(results.iter().map(|result| result["id"].as_str().unwrap().to_owned()));
    }
    ids
}

/// Changes a byte of every place in the store's file that says `needle`, old pages included.
fn scribble(dir: &Path, needle: &str) {
    let path = dir.join("store.redb");
    let mut bytes = fs::read(&path).unwrap();
    let places: Vec<usize> = bytes
        .windows(needle.len())
        .enumerate()
        .filter(|(_, window)| *window == needle.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "{needle} is not in the file");
    for at in places {
        bytes[at] ^= 1;
    }
    fs::write(&path, bytes).unwrap();
}

const QUIET: [(&str, &str); 2] = [("RUN_EMBEDDING_WORKER", "false"), ("EMBEDDING_ASYNC", "true")];

#[test]
fn a_store_is_checked_with_and_without_a_server() {
    let mut server = Server::start(&QUIET);
    fill(&server, 0..50, 10);
    let dir = server.dir().to_owned();
    let online = run_json(&dir, "db check --isolation --json");
    assert_eq!(online["sound"], true, "{online}");
    let stats = run_json(&dir, "db stats --json");
    let nodes = |tables: &Value| {
        let tables = tables.as_array().unwrap();
        tables.iter().find(|table| table["table"] == "graph.nodes").unwrap()["rows"].clone()
    };
    assert_eq!(nodes(&stats["tables"]), 50);
    assert_eq!(stats["queues"]["embedding"]["ready"], 50, "{stats}");
    let activity = run_json(&dir, "db activity --json");
    assert_eq!(activity["writable"], true);
    assert!(activity["writer"]["commits"].as_u64().unwrap() > 0);
    assert_eq!(run_json(&dir, "db init --json")["made"], false);
    for line in ["db compact", "db repair"] {
        let (code, _, said) = run(&dir, line);
        assert_eq!(code, 3, "{said}");
        assert!(said.contains(&server.pid().to_string()), "{said}");
    }

    server.kill();
    let before = fs::read(dir.join("store.redb")).unwrap();
    let offline = run_json(&dir, "db check --isolation --json");
    assert_eq!(offline["sound"], true, "{offline}");
    assert_eq!(nodes(&offline["tables"]), 50);
    assert!(offline["isolation"]["references"].as_u64().unwrap() > 0);
    assert_eq!(nodes(&run_json(&dir, "db stats --json")["tables"]), 50);
    assert!(fs::read(dir.join("store.redb")).unwrap() == before, "looking changes nothing");
    let (code, _, said) = run(&dir, "db activity");
    assert_eq!(code, 1);
    assert!(said.contains("no server runs"), "{said}");
}

#[test]
fn a_store_is_made_once() {
    let own = tempfile::tempdir().unwrap();
    let dir = own.path().join("new");
    assert_eq!(run_json(&dir, "db init --json")["made"], true);
    assert_eq!(run_json(&dir, "db init --json")["made"], false);
    assert_eq!(run_json(&dir, "db check --json")["sound"], true);
}

#[test]
fn compaction_gives_space_back_and_keeps_everything() {
    let mut server = Server::start(&QUIET);
    let ids = fill(&server, 0..600, 4000);
    let (gone, kept) = ids.split_at(550);
    for id in gone {
        server.delete(&format!("/nodes/{id}?hard=true")).expect(200);
    }
    assert_eq!(server.terminate().code(), Some(0));
    let report = run_json(server.dir(), "db compact --json");
    let (before, after) = (&report["before_bytes"], &report["after_bytes"]);
    assert!(after.as_u64().unwrap() < before.as_u64().unwrap() / 2, "{report}");
    let size = fs::metadata(server.dir().join("store.redb")).unwrap().len();
    assert_eq!(Some(size), after.as_u64());
    assert_eq!(run_json(server.dir(), "db check --json")["sound"], true);
    server.start_again(&[]);
    for (n, id) in kept.iter().enumerate() {
        let node = server.get(&format!("/nodes/{id}")).expect(200);
        assert_eq!(node["props"]["n"], 550 + n);
    }
    assert_eq!(server.get(&format!("/nodes/{}", gone[0])).status, 404);
}

#[test]
fn damage_is_found_and_all_else_is_saved() {
    let mut server = Server::start(&QUIET);
    let ids = fill(&server, 0..200, 300);
    let dir = server.dir().to_owned();
    assert_eq!(server.terminate().code(), Some(0));
    let hit = [7, 120, 199];
    for n in hit {
        scribble(&dir, &format!("<mark {n:06}>"));
    }
    server.start_again(&[]);
    // The server goes on with what is sound, and tells damage from absence.
    assert_eq!(server.get(&format!("/nodes/{}", ids[0])).status, 200);
    assert_eq!(server.get(&format!("/nodes/{}", ids[7])).status, 500);
    let (code, printed, said) = run(&dir, "db check");
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("graph.nodes: 3 of 200 rows damaged"), "{printed}");
    assert!(said.contains("activekg db repair"), "{said}");
    assert_eq!(server.terminate().code(), Some(0));
    assert_eq!(run(&dir, "db check").0, 1);
    let (code, _, said) = run(&dir, "db compact");
    assert!(code == 1 && said.contains("graph.nodes"), "{said}");

    let (code, printed, said) = run(&dir, "db repair --json");
    assert_eq!(code, 1, "rows are lost, which is a failure: {said}");
    let report: Value = serde_json::from_str(&printed).unwrap();
    let nodes = report["tables"].as_array().unwrap().iter();
    let nodes = nodes.clone().find(|table| table["table"] == "graph.nodes").unwrap();
    assert_eq!(
        (&nodes["kept"], &nodes["quarantined"], &nodes["lost"]),
        (&json!(197), &json!(3), &json!(0))
    );
    let quarantine = Path::new(report["quarantine"].as_str().unwrap());
    assert!(quarantine.join("store.redb").exists() && quarantine.join("index").exists());
    let list = fs::read_to_string(quarantine.join("rows.jsonl")).unwrap();
    assert_eq!(list.lines().filter(|line| line.contains("graph.nodes")).count(), 3);
    assert_eq!(run_json(&dir, "db check --isolation --json")["sound"], true);

    server.start_again(&[]);
    for (n, id) in ids.iter().enumerate() {
        let expected = if hit.contains(&n) { 404 } else { 200 };
        assert_eq!(server.get(&format!("/nodes/{id}")).status, expected, "node {n}");
    }
    let list = server.get("/nodes?limit=1").expect(200);
    assert_eq!(list["total"], 197, "the counters are right: {list}");
}

#[test]
fn a_store_that_cannot_be_opened_is_named_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("store.redb"), "nothing of the kind").unwrap();
    let (code, _, said) = run(dir.path(), "serve");
    assert_eq!(code, 3);
    assert!(said.contains("activekg db repair") && said.contains("backup restore"), "{said}");
    let (code, _, said) = run(dir.path(), "db repair");
    assert!(code == 1 && said.contains("backup restore"), "{said}");
    assert_eq!(fs::read(dir.path().join("store.redb")).unwrap(), b"nothing of the kind");
}

#[test]
fn after_a_failed_write_reads_go_on_and_writes_are_refused() {
    let mut server = Options::new(&QUIET).file_kib(24 << 10).start();
    let socket = server.dir().join("admin.sock");
    let first = fill(&server, 0..10, 100);
    let filler = json!({ "classes": ["Doc"], "props": { "mark": "y".repeat(1 << 20) } });
    let refused =
        (0..100).map(|_| server.post("/nodes", &filler)).find(|answer| answer.status != 200);
    let refused = refused.expect("the file is full before");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.expect_detail(503).contains("restarted"));
    assert_eq!(server.post("/nodes", &filler).status, 503);
    for id in &first {
        server.get(&format!("/nodes/{id}")).expect(200);
    }
    server.post("/search", &json!({ "query": "mark", "mode": "bm25" })).expect(200);
    assert_eq!(server.get("/health").status, 200);
    let ready = server.get("/readyz").expect(503);
    assert_eq!(ready["status"], "degraded", "{ready}");
    let metrics = server.get("/prometheus");
    assert!(metrics.text().contains("activekg_store_writable 0"), "{}", metrics.text());
    let activity = Request::get("/_admin/db/activity").send_over(&socket).unwrap().expect(200);
    assert_eq!(activity["writable"], false);

    // Restarted where there is room it is as good as new, with all that was acknowledged.
    server.terminate();
    let again = Options::new(&QUIET).dir(server.dir()).start();
    for id in &first {
        again.get(&format!("/nodes/{id}")).expect(200);
    }
    fill(&again, 10..11, 10);
}

/// A file system that is taken away at the end.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// `None`, and a word on stderr, where mounting is not allowed.
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Mounted(dir);
        if mounted.mount(&["-t", "tmpfs", "-o", "size=200m", "tmpfs"]) {
            return Some(mounted);
        }
        eprintln!("skipped: mounting a file system is not allowed here");
        None
    }

    fn mount(&self, how: &[&str]) -> bool {
        let mut command = Command::new("mount");
        let done = command.args(how).arg(self.0.path()).stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Not mounted, there is nothing to undo.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).stderr(Stdio::null()).status();
    }
}

#[test]
fn a_file_system_that_cannot_be_written_is_served_from() {
    let Some(mounted) = Mounted::new() else { return };
    let dir = mounted.0.path().join("data");
    let ids = {
        let mut server = Options::new(&QUIET).dir(&dir).start();
        let ids = fill(&server, 0..20, 10);
        // Killed, so that reading it takes a recovery, which cannot be written either.
        server.kill();
        ids
    };
    assert!(mounted.mount(&["-o", "remount,ro"]));
    assert_eq!(run_json(&dir, "db check --json")["sound"], true);
    let server = Options::new(&QUIET).dir(&dir).start_degraded();
    for id in &ids {
        server.get(&format!("/nodes/{id}")).expect(200);
    }
    let answer = server.post("/nodes", &json!({ "classes": ["Doc"], "props": {} }));
    assert_eq!(answer.status, 503, "{}", answer.text());
    let by_words = Request::post("/search", &json!({ "query": "mark", "mode": "bm25" }));
    server.until(&by_words, |answer| answer.status == 200);
    drop(server);
    assert!(mounted.mount(&["-o", "remount,rw"]));
    let server = Options::new(&QUIET).dir(&dir).start();
    fill(&server, 20..21, 10);
}

#[test]
fn a_file_where_the_indexes_belong_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("index"), "a note").unwrap();
    let server = Options::new(&QUIET).dir(dir.path()).start();
    fill(&server, 0..1, 10);
    assert!(dir.path().join("index").is_dir());
    assert_eq!(fs::read(dir.path().join("index.damaged")).unwrap(), b"a note");
}

#[test]
fn the_background_scan_counts_damage() {
    let mut server = Server::start(&QUIET);
    fill(&server, 0..30, 50);
    // A search waits until all that was written is indexed: a damaged row cannot be.
    server.post("/search", &json!({ "query": "mark", "mode": "bm25" })).expect(200);
    assert_eq!(server.terminate().code(), Some(0));
    scribble(server.dir(), "<mark 000003>");
    server.start_again(&[("ACTIVEKG_SCRUB_INTERVAL_HOURS", "0.00001")]);
    let metrics = Request::get("/prometheus");
    let corrupt = "activekg_store_corrupt_rows{table=\"graph.nodes\"} 1";
    let answer = server.until(&metrics, |answer| answer.text().contains(corrupt));
    assert!(!answer.text().contains("activekg_store_rows_scanned_total 0\n"));
    server.logged("graph.nodes");
}
