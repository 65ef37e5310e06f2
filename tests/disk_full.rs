//! The disk of a running server fills up, from outside and at many points: nothing acknowledged is
//! lost, reads and removals go on, and writes do, without a restart, once there is space again.
//!
//! On a small file system in memory, which takes the right to mount one. Where that is refused the
//! tests say so and pass; those of the store fill a disk of their own (`storage/tests/disk_full.rs`).
//!
//! `ACTIVEKG_TEST_FILL_ROUNDS` sets how often it fills up.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::common::http::Connection;
use crate::common::{Answer, Options, Request, Server};

const ROUNDS: usize = 4;
const WRITERS: usize = 4;
const FILE_SYSTEM_BYTES: u64 = 96 << 20;
const FLOOR_BYTES: u64 = 16 << 20;

/// Nobody throttles the writers.
const ENV: &[(&str, &str)] = &[
    ("EMBEDDING_ASYNC", "true"),
    ("EMBEDDING_TENANT_MAX_PENDING", "0"),
    ("EMBEDDING_QUEUE_MAX_DEPTH", "0"),
];

/// A small file system in memory, gone when dropped.
struct Mounted {
    dir: tempfile::TempDir,
}

impl Mounted {
    /// Nothing where that is not allowed.
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={FILE_SYSTEM_BYTES}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            println!("skipped: mounting a file system is not allowed here");
        }
        mounted.then_some(Self { dir })
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Takes what is free but for `left` bytes, as somebody else's file.
    fn fill(&self, left: u64) -> Foreign {
        let path = self.dir.path().join("foreign");
        let mut file = File::create(&path).unwrap();
        let chunk = [1; 1 << 16];
        loop {
            let more = fs4::available_space(self.dir.path()).unwrap().saturating_sub(left);
            let more = usize::try_from(more).unwrap().min(chunk.len());
            // The server writes too: there may be less by now.
            if more == 0 || file.write_all(&chunk[..more]).is_err() {
                return Foreign(path);
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.dir.path()).status());
    }
}

/// A file in the way, gone when dropped.
struct Foreign(PathBuf);

impl Drop for Foreign {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// Writers that go on while the disk fills up; the nodes they were told are there.
#[derive(Default)]
struct Written {
    nodes: BTreeMap<String, String>,
    /// How much space each refusal asked for.
    needed: Vec<u64>,
}

/// Large enough that some hundred of them fill the disk by themselves.
fn node(name: u64) -> Value {
    json!({ "classes": ["Doc"], "props": { "text": text(name), "scan": "0123456789".repeat(6_000) } })
}

fn text(name: u64) -> String {
    format!("entry number{name}q of the log book")
}

/// The contract's body of 507: path, bytes free, bytes needed. Returns the last.
fn assert_refused(answer: &Answer, data: &Path) -> u64 {
    let body = answer.expect(507);
    let detail = body["detail"].as_str().unwrap();
    let numbers = detail
        .strip_prefix(&format!("Insufficient storage at {}: ", data.display()))
        .and_then(|rest| rest.strip_suffix(" needed"))
        .and_then(|rest| rest.split_once(" bytes free, "));
    let (free, needed) = numbers.unwrap_or_else(|| panic!("{detail}"));
    let (free, needed): (u64, u64) = (free.parse().unwrap(), needed.parse().unwrap());
    assert!(free < needed, "{detail}");
    needed
}

/// Creates nodes until told to stop.
fn write_until(addr: SocketAddr, names: &AtomicU64, stop: &AtomicBool, data: &Path) -> Written {
    let mut written = Written::default();
    let mut connection = Connection::open(addr).unwrap();
    while !stop.load(Ordering::Relaxed) {
        let name = names.fetch_add(1, Ordering::Relaxed);
        let answer = connection.send(&Request::post("/nodes", &node(name))).unwrap();
        if answer.status == 200 {
            let id = answer.json()["id"].as_str().unwrap().to_owned();
            written.nodes.insert(id, text(name));
        } else {
            written.needed.push(assert_refused(&answer, data));
        }
    }
    written
}

/// Fills the disk but for `left` bytes while clients write, and goes on until somebody was refused.
fn fill_while_writing(
    mounted: &Mounted,
    server: &Server,
    names: &AtomicU64,
    left: u64,
) -> (Written, Foreign) {
    let (addr, data, stop) = (server.addr(), mounted.data(), AtomicBool::new(false));
    thread::scope(|scope| {
        let write = || write_until(addr, names, &stop, &data);
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(write)).collect();
        let foreign = mounted.fill(left);
        server.until(&Request::post("/nodes", &node(0)), |answer| answer.status == 507);
        stop.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        for writer in writers {
            let Written { nodes, needed } = writer.join().unwrap();
            all.nodes.extend(nodes);
            all.needed.extend(needed);
        }
        (all, foreign)
    })
}

/// Everything acknowledged is as it was acknowledged.
fn check(server: &Server, nodes: &BTreeMap<String, String>) {
    let mut connection = Connection::open(server.addr()).unwrap();
    for (id, text) in nodes {
        let answer = connection.send(&Request::get(format!("/nodes/{id}"))).unwrap();
        assert_eq!(answer.expect(200)["props"]["text"], text.as_str(), "{id}");
    }
}

/// A node created now is found by its words: store and index both take writes.
fn assert_writable(server: &Server, names: &AtomicU64) -> (String, String) {
    let name = names.fetch_add(1, Ordering::Relaxed);
    let create = Request::post("/nodes", &node(name));
    let created = server.until(&create, |answer| answer.status == 200).json();
    let id = created["id"].as_str().unwrap().to_owned();
    let search = json!({ "query": format!("number{name}q"), "mode": "bm25" });
    server.until(&Request::post("/search", &search), |answer| {
        let found = answer.json();
        let hits = found["results"].as_array().into_iter().flatten();
        answer.status == 200 && hits.into_iter().any(|hit| hit["id"] == id.as_str())
    });
    (id, text(name))
}

fn rounds() -> usize {
    let rounds = std::env::var("ACTIVEKG_TEST_FILL_ROUNDS").ok();
    rounds.map_or(ROUNDS, |rounds| rounds.parse().unwrap())
}

#[test]
fn below_the_floor_writes_are_refused_and_everything_else_goes_on() {
    let Some(mounted) = Mounted::new() else { return };
    let options = Options::new(ENV).set("ACTIVEKG_MIN_FREE_BYTES", &FLOOR_BYTES.to_string());
    let server = options.set("RUN_EMBEDDING_WORKER", "false").dir(&mounted.data()).start();
    let names = AtomicU64::new(1);
    let mut known = BTreeMap::new();
    for round in 0..rounds() as u64 {
        let left = FLOOR_BYTES - 1 - round % 4 * (FLOOR_BYTES / 8);
        let (written, foreign) = fill_while_writing(&mounted, &server, &names, left);
        // It was the floor that refused: nothing met the end of the disk.
        assert!(written.needed.iter().all(|needed| *needed == FLOOR_BYTES));
        known.extend(written.nodes);
        check(&server, &known);
        let (gone, _) = known.pop_first().unwrap();
        server.delete(&format!("/nodes/{gone}?hard=true")).expect(200);
        assert_eq!(server.get(&format!("/nodes/{gone}")).status, 404);
        drop(foreign);
        known.extend([assert_writable(&server, &names)]);
    }
    check(&server, &known);
}

#[test]
fn a_disk_that_is_full_to_the_last_byte_loses_nothing() {
    let Some(mounted) = Mounted::new() else { return };
    let options = Options::new(ENV).set("ACTIVEKG_MIN_FREE_BYTES", "0").dir(&mounted.data());
    let mut server = options.start();
    let names = AtomicU64::new(1);
    let mut known = BTreeMap::new();
    for round in 0..rounds() as u64 {
        let left = [0, 1 << 20, 100 << 10, 4 << 20][round as usize % 4];
        let (written, foreign) = fill_while_writing(&mounted, &server, &names, left);
        known.extend(written.nodes);
        check(&server, &known);
        let (gone, _) = known.pop_first().unwrap();
        server.delete(&format!("/nodes/{gone}?hard=true")).expect(200);
        if round % 2 == 1 {
            // Killed and started while the disk is full.
            server.kill();
            server.start_again(&[]);
            check(&server, &known);
        }
        drop(foreign);
        known.extend([assert_writable(&server, &names)]);
    }
    server.kill();
    server.start_again(&[]);
    check(&server, &known);
    known.extend([assert_writable(&server, &names)]);
    // The work that could not be written down is done after all.
    server.until(&Request::get("/admin/embedding/status"), |answer| {
        let counts = &answer.json()["status_counts"];
        counts.get("queued").is_none() && counts.get("processing").is_none()
    });
}
