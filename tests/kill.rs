//! The process is killed again and again while clients write. Whatever was acknowledged is there
//! afterwards, once, and gets embedded.
//!
//! `ACTIVEKG_TEST_KILL_ROUNDS` sets how often; 200 rounds take some minutes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::http::Connection;
use crate::common::{Options, Request, Server};

const ROUNDS: u32 = 6;
const WRITERS: u64 = 6;
/// Longest time in which nothing at all is embedded before the test gives up.
const STANDSTILL_MAX: Duration = Duration::from_secs(120);

/// Acknowledged before a kill, while nobody throttles the writers.
const ENV: &[(&str, &str)] = &[
    ("EMBEDDING_ASYNC", "true"),
    ("EMBEDDING_TENANT_MAX_PENDING", "0"),
    ("EMBEDDING_QUEUE_MAX_DEPTH", "0"),
];

/// What a client was told: the node of this id has this text, or is gone.
type Acknowledged = BTreeMap<String, Option<String>>;

#[test]
fn nothing_acknowledged_is_lost() {
    let rounds =
        std::env::var("ACTIVEKG_TEST_KILL_ROUNDS").ok().map(|rounds| rounds.parse().unwrap());
    let rounds = rounds.unwrap_or(ROUNDS);
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new(ENV).dir(dir.path());
    let mut random = Random(0x5EED);
    let mut server = options.clone().start();
    let names = AtomicU64::new(0);
    let mut known = Acknowledged::new();

    for round in 0..rounds {
        let (addr, life) = (server.addr(), Duration::from_millis(random.below(400)));
        let written = thread::scope(|scope| {
            let writers: Vec<_> =
                (0..WRITERS).map(|_| scope.spawn(|| write_until_cut(addr, &names))).collect();
            thread::sleep(life);
            server.kill();
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Acknowledged>()
        });
        if round == rounds / 2 {
            std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        }
        if round % 3 == 2 {
            // Killed while it starts.
            let mut command = options.command(dir.path(), &["serve"]);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            thread::sleep(Duration::from_millis(random.below(300)));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        server.start_again(&[]);
        check(&server, &written);
        let sample = random.below(1 + known.len() as u64) as usize;
        let older: Acknowledged = known
            .iter()
            .skip(sample)
            .take(50)
            .map(|(id, text)| (id.clone(), text.clone()))
            .collect();
        check(&server, &older);
        known.extend(written);
    }

    let status = wait_until_embedded(&server);
    check(&server, &known);
    check_whole(&server, &known, &status, names.load(Ordering::Relaxed));
    println!("{rounds} rounds, {} nodes acknowledged, {status}", known.len());
}

/// Writes in a loop until the connection breaks, and returns what was acknowledged.
fn write_until_cut(addr: SocketAddr, names: &AtomicU64) -> Acknowledged {
    let mut written = Acknowledged::new();
    let Ok(mut connection) = Connection::open(addr) else {
        return written;
    };
    loop {
        let name = names.fetch_add(1, Ordering::Relaxed);
        let Ok(done) = write(&mut connection, name, &mut written) else {
            return written;
        };
        assert!(done, "a write was refused");
    }
}

/// One step of a writer: mostly creates, with some batches, changes and deletes between. An error
/// means that no answer came.
fn write(
    connection: &mut Connection,
    name: u64,
    written: &mut Acknowledged,
) -> std::io::Result<bool> {
    let first = written.iter().find(|(_, text)| text.is_some()).map(|(id, _)| id.clone());
    match (name % 16, first) {
        (3, Some(id)) => {
            // Until it is answered nobody knows which of the two texts is there.
            written.remove(&id);
            let node = node(name);
            let put = Request::put(format!("/nodes/{id}"), &json!({ "props": node["props"] }));
            let answer = connection.send(&put)?;
            written.insert(id, Some(text(name)));
            Ok(answer.status == 200)
        }
        (7, Some(id)) => {
            written.remove(&id);
            let answer = connection.send(&Request::delete(format!("/nodes/{id}?hard=true")))?;
            written.insert(id, None);
            Ok(answer.status == 200)
        }
        (11, _) => {
            let mut nodes = vec![node(name); 3];
            for (n, node) in nodes.iter_mut().enumerate() {
                node["props"]["external_id"] = format!("{name}-{n}").into();
            }
            let answer =
                connection.send(&Request::post("/nodes/batch", &json!({ "nodes": nodes })))?;
            let body = answer.json();
            for result in body["results"].as_array().into_iter().flatten() {
                written.insert(result["id"].as_str().unwrap().to_owned(), Some(text(name)));
            }
            Ok(body["created"] == 3)
        }
        _ => {
            let answer = connection.send(&Request::post("/nodes", &node(name)))?;
            let id = answer.json()["id"].as_str().map(str::to_owned);
            let done = answer.status == 200 && id.is_some();
            written.extend(id.map(|id| (id, Some(text(name)))));
            Ok(done)
        }
    }
}

/// A node whose every embedding is an event.
fn node(name: u64) -> Value {
    json!({
        "classes": ["Doc"],
        "props": { "text": text(name), "external_id": name.to_string() },
        "refresh_policy": { "drift_threshold": -1 },
    })
}

fn text(name: u64) -> String {
    format!("entry number{name}q of the log book")
}

/// Everything acknowledged is as it was acknowledged.
fn check(server: &Server, acknowledged: &Acknowledged) {
    let mut connection = Connection::open(server.addr()).unwrap();
    for (id, text) in acknowledged {
        let answer = connection.send(&Request::get(format!("/nodes/{id}"))).unwrap();
        match text {
            Some(text) => assert_eq!(answer.expect(200)["props"]["text"], text.as_str(), "{id}"),
            None => assert_eq!(answer.status, 404, "{id} was removed"),
        }
    }
}

/// Waits until no node waits for its embedding, and returns the last status.
fn wait_until_embedded(server: &Server) -> Value {
    let mut last = (json!(null), Instant::now());
    loop {
        let status = server.get("/admin/embedding/status").expect(200);
        let counts = &status["status_counts"];
        if counts.get("queued").is_none() && counts.get("processing").is_none() {
            return status;
        }
        if status != last.0 {
            last = (status, Instant::now());
        }
        assert!(last.1.elapsed() < STANDSTILL_MAX, "embedding stands still at {}", last.0);
        thread::sleep(Duration::from_millis(50));
    }
}

/// The store as a whole: every node embedded, none twice, all counts the same, and the indexes
/// know all of it.
fn check_whole(server: &Server, known: &Acknowledged, status: &Value, attempts: u64) {
    let mut connection = Connection::open(server.addr()).unwrap();
    let mut names = BTreeMap::new();
    let mut total = 0;
    for page in 1.. {
        let list = Request::get(format!("/nodes?include=props&limit=1000&page={page}"));
        let list = connection.send(&list).unwrap().expect(200);
        let nodes = list["nodes"].as_array().unwrap();
        total = list["total"].as_u64().unwrap();
        for node in nodes {
            assert_eq!(
                (&node["embedding_status"], &node["has_embedding"]),
                (&json!("ready"), &json!(true)),
                "{node}"
            );
            let name = node["props"]["external_id"].as_str().unwrap().to_owned();
            let before = names.insert(name, node["id"].clone());
            assert_eq!(before, None, "{node} is there twice");
        }
        if nodes.is_empty() {
            break;
        }
    }
    let present = known.values().flatten().count();
    assert_eq!(names.len() as u64, total);
    assert!(names.len() >= present, "{} of {present}", names.len());
    // A batch makes three nodes of one attempt.
    assert!((names.len() as u64) <= attempts * 3, "{} of {attempts} attempts", names.len());
    assert_eq!(status["status_counts"], json!({ "ready": total }));
    assert_eq!(status["queue"]["queue"], 0);
    assert_eq!((&status["queue"]["retry"], &status["queue"]["dlq"]), (&json!(0), &json!(0)));
    let info = server.get("/debug/embed_info").expect(200);
    assert_eq!(
        info["counts"],
        json!({ "total_nodes": total, "with_embedding": total, "without_embedding": 0 })
    );

    let step = 1 + known.len() / 200;
    for (id, text) in known.iter().step_by(step) {
        let Some(text) = text else { continue };
        let count = |path: String| server.get(&path).expect(200)["count"].clone();
        let events = count(format!("/events?node_id={id}"));
        assert_ne!(events, 0, "every embedding of {id} is an event");
        assert_eq!(events, count(format!("/nodes/{id}/versions?limit=100")), "{id}");
        let word = text.split(' ').nth(1).unwrap();
        let by_words = Request::post("/search", &json!({ "query": word, "mode": "bm25" }));
        let found = server.until(&by_words, |answer| answer.json()["count"] != 0).json();
        let ids: Vec<&Value> =
            found["results"].as_array().unwrap().iter().map(|hit| &hit["id"]).collect();
        assert!(ids.contains(&&json!(id)), "{word}: {ids:?}");
        let by_meaning = Request::post("/search", &json!({ "query": text, "top_k": 100 }));
        server.until(&by_meaning, |answer| {
            answer.json()["results"].as_array().unwrap().iter().any(|hit| hit["id"] == id.as_str())
        });
    }
}

/// A sequence that is the same at every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
