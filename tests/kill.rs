//! The process is killed again and again while clients write, search, have nodes embedded anew,
//! make backups and change the embedding model, and so is the compaction of what it leaves. Whatever was acknowledged is there
//! afterwards, once, and gets embedded, and what it listens for fires once; an archive that was acknowledged restores.
//!
//! `ACTIVEKG_TEST_KILL_ROUNDS` sets how often; 200 rounds take some minutes. Prints how long the
//! starts after a kill took until the server was ready.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::http::Connection;
use crate::common::{Options, Request, Server, of_checkout};

const ROUNDS: u32 = 6;

/// What runs beside each other in every round, each in a thread of its own until the server is
/// gone, and what it was told meanwhile. Another kind of load is another function here.
const LOADS: &[fn(&Target<'_>) -> Acknowledged] = &[
    write_until_cut,
    write_until_cut,
    write_until_cut,
    write_until_cut,
    write_until_cut,
    write_until_cut,
    search_until_cut,
    refresh_until_cut,
    back_up_until_cut,
    change_model_until_cut,
];

/// The model that is changed to.
const MODEL: &str = "mini";

/// What every node listens for, and hears in any text.
const PATTERN: &str = "entry";

/// Nodes of which the events are looked at in the end.
const HEARD_MAX: usize = 300;

/// Backups in a round.
const BACKUPS_MAX: usize = 3;

/// Refreshes in a round; every one is a version, and all are embedded before the test ends.
const REFRESHES_MAX: usize = 40;
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

/// What a load works on.
struct Target<'a> {
    addr: SocketAddr,
    /// The next node's name.
    names: &'a AtomicU64,
    /// Nodes that were there when the round began.
    known: &'a Acknowledged,
    /// Archives that were acknowledged, oldest first.
    archives: &'a Mutex<Vec<String>>,
}

#[test]
fn nothing_acknowledged_is_lost() {
    let rounds =
        std::env::var("ACTIVEKG_TEST_KILL_ROUNDS").ok().map(|rounds| rounds.parse().unwrap());
    let rounds = rounds.unwrap_or(ROUNDS);
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new(ENV).dir(dir.path());
    let source = of_checkout("assets/models/all-MiniLM-L6-v2");
    let mut add = options.command(dir.path(), &["models", "add", "--name", MODEL]);
    assert!(add.arg(source).output().unwrap().status.success());
    let mut random = Random(0x5EED);
    let mut server = options.clone().start();
    let pattern = json!({ "name": PATTERN, "example_text": "an entry of the log book" });
    server.post("/triggers", &pattern).expect(200);
    let names = AtomicU64::new(0);
    let mut known = Acknowledged::new();
    let archives = Mutex::default();
    let mut starts = Vec::new();

    for round in 0..rounds {
        let life = Duration::from_millis(random.below(400));
        let target =
            Target { addr: server.addr(), names: &names, known: &known, archives: &archives };
        let written = thread::scope(|scope| {
            let loads: Vec<_> = LOADS.iter().map(|load| scope.spawn(|| load(&target))).collect();
            thread::sleep(life);
            server.kill();
            loads.into_iter().flat_map(|load| load.join().unwrap()).collect::<Acknowledged>()
        });
        if round == rounds / 2 {
            std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        }
        match round % 3 {
            1 => {
                kill_after(options.command(dir.path(), &["db", "compact"]), random.below(100));
                let done = options.command(dir.path(), &["db", "compact"]).output().unwrap();
                assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            }
            2 => kill_after(options.command(dir.path(), &["serve"]), random.below(300)),
            _ => {}
        }
        keep_newest(&mut archives.lock().unwrap());
        let started = Instant::now();
        server.start_again(&[]);
        starts.push(started.elapsed());
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
    check_fired(&server, &known);
    for way in ["switch", "roll-back"] {
        until_changed(&server, way);
        let status = wait_until_embedded(&server);
        check_whole(&server, &known, &status, names.load(Ordering::Relaxed));
    }
    check_fired(&server, &known);
    if let Some(archive) = archives.lock().unwrap().last() {
        let verified =
            options.command(dir.path(), &["backup", "verify", archive]).output().unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    }
    starts.sort_unstable();
    let (median, longest) = (starts[starts.len() / 2], starts[starts.len() - 1]);
    println!("{rounds} rounds, {} nodes acknowledged, {status}", known.len());
    println!("ready after a kill in {median:.0?} (median), at most {longest:.0?}");
}

/// Writes in a loop until the connection breaks, and returns what was acknowledged.
fn write_until_cut(target: &Target<'_>) -> Acknowledged {
    let mut written = Acknowledged::new();
    let Ok(mut connection) = Connection::open(target.addr) else {
        return written;
    };
    loop {
        let name = target.names.fetch_add(1, Ordering::Relaxed);
        let Ok(done) = write(&mut connection, name, &mut written) else {
            return written;
        };
        assert!(done, "a write was refused");
    }
}

/// Searches in a loop, by words and by meaning, which has the indexes commit at odd moments.
fn search_until_cut(target: &Target<'_>) -> Acknowledged {
    let Ok(mut connection) = Connection::open(target.addr) else {
        return Acknowledged::new();
    };
    for name in 0.. {
        let mode = ["bm25", "vector", "hybrid"][name as usize % 3];
        let search = json!({ "query": text(name), "mode": mode });
        let Ok(answer) = connection.send(&Request::post("/search", &search)) else { break };
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    Acknowledged::new()
}

/// Has nodes of earlier rounds embedded anew in a loop: work for the queue, no change of what they
/// are.
fn refresh_until_cut(target: &Target<'_>) -> Acknowledged {
    let Ok(mut connection) = Connection::open(target.addr) else {
        return Acknowledged::new();
    };
    let present = target.known.iter().filter(|(_, text)| text.is_some()).map(|(id, _)| id);
    for id in present.collect::<Vec<_>>().into_iter().cycle().take(REFRESHES_MAX) {
        let refresh = Request::post(format!("/nodes/{id}/refresh"), &json!({}));
        let Ok(answer) = connection.send(&refresh) else { break };
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    Acknowledged::new()
}

/// Makes backups.
fn back_up_until_cut(target: &Target<'_>) -> Acknowledged {
    let Ok(mut connection) = Connection::open(target.addr) else {
        return Acknowledged::new();
    };
    for _ in 0..BACKUPS_MAX {
        let backup = Request::post("/admin/backup", &json!({}));
        let Ok(answer) = connection.send(&backup) else { break };
        let path = answer.expect(200)["path"].as_str().unwrap().to_owned();
        target.archives.lock().unwrap().push(path);
    }
    Acknowledged::new()
}

/// Begins to change the embedding model, goes over to the new one, goes back, and drops one, in a
/// loop.
fn change_model_until_cut(target: &Target<'_>) -> Acknowledged {
    let Ok(mut connection) = Connection::open(target.addr) else {
        return Acknowledged::new();
    };
    for act in target.names.load(Ordering::Relaxed).. {
        let request = match act % 5 {
            0 => Request::delete("/admin/model/change"),
            1 => Request::post("/admin/model/change", &json!({ "model": MODEL })),
            2 => Request::post("/admin/model/change", &json!({ "model": "all-MiniLM-L6-v2" })),
            3 => Request::post("/admin/model/switch", &json!({})),
            _ => Request::post("/admin/model/roll-back", &json!({})),
        };
        let Ok(answer) = connection.send(&request) else { break };
        // Most are refused as the change then is.
        assert!(matches!(answer.status, 200 | 202 | 404 | 409 | 503), "{}", answer.text());
    }
    Acknowledged::new()
}

/// Has a change go `way`, whatever was under way before.
fn until_changed(server: &Server, way: &str) {
    let wanted = if way == "switch" { "ready" } else { "switched" };
    let started = Instant::now();
    loop {
        let status = server.get("/admin/model").expect(200);
        match status["change"]["phase"].as_str() {
            None => {
                let other =
                    if status["serving"]["name"] == MODEL { "all-MiniLM-L6-v2" } else { MODEL };
                server.post("/admin/model/change", &json!({ "model": other })).expect(202);
            }
            Some("switched") if way == "switch" => return,
            Some(phase) if phase == wanted => {
                server.post(&format!("/admin/model/{way}"), &json!({})).expect(200);
                return;
            }
            Some(_) => {}
        }
        assert!(started.elapsed() < STANDSTILL_MAX, "the change stands still at {status}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Removes all archives but the last, which would fill the disk of a long run.
fn keep_newest(archives: &mut Vec<String>) {
    let newest = archives.len().saturating_sub(1);
    for archive in archives.drain(..newest) {
        std::fs::remove_file(archive).unwrap();
    }
}

/// Runs a command and kills it after this many milliseconds, if it has not ended by then.
fn kill_after(mut command: Command, milliseconds: u64) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    thread::sleep(Duration::from_millis(milliseconds));
    child.kill().unwrap();
    child.wait().unwrap();
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
        "triggers": [{ "name": PATTERN, "threshold": -1 }],
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

/// Every node has heard its pattern, and not more often than it had other texts: being embedded
/// again, by this model or another, is no news.
fn check_fired(server: &Server, known: &Acknowledged) {
    let started = Instant::now();
    loop {
        let queue = server.get("/admin/queues/triggers").expect(200);
        let depths = &queue["depths"];
        if depths["ready"] == 0 && depths["leased"] == 0 && depths["delayed"] == 0 {
            assert_eq!(depths["dead"], 0, "{queue}");
            break;
        }
        assert!(started.elapsed() < STANDSTILL_MAX, "the checks stand still at {queue}");
        thread::sleep(Duration::from_millis(50));
    }
    let mut connection = Connection::open(server.addr()).unwrap();
    let present = known.iter().filter(|(_, text)| text.is_some()).map(|(id, _)| id);
    for id in present.take(HEARD_MAX) {
        let node = connection.send(&Request::get(format!("/nodes/{id}"))).unwrap().expect(200);
        let events = format!("/events?node_id={id}&event_type=trigger_fired&limit=1000");
        let events = connection.send(&Request::get(events)).unwrap().expect(200);
        let (fired, versions) =
            (events["count"].as_u64().unwrap(), node["version"].as_u64().unwrap());
        assert!((1..=versions).contains(&fired), "{id} fired {fired} times in {versions} versions");
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
        let events = count(format!("/events?node_id={id}&event_type=refreshed"));
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
