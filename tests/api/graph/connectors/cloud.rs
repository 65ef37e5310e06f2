//! Clouds that fail, dawdle and forget, and what the workers make of it.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::site::counted;
use super::{QUIET, at, patch, register};
use crate::common::{Answer, Options, Request, Server};

const KEY_ID: &str = "AKIAFIRSTFIRSTFIRST";
const NEW_KEY_ID: &str = "AKIASECONDSECONDSECOND";

/// What a cloud does when it is asked for an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Says this instead of what the object is.
    Refuse(u16),
    /// Wants to be left alone for a second.
    Pause,
    /// Ends in the middle of what is in it.
    BreakOff,
    /// Gives what is in it piece by piece.
    Trickle,
    /// Gives the object.
    Give,
}

/// A service that speaks as S3 does, and does to each object what was planned.
struct Cloud {
    addr: SocketAddr,
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    /// The acts that are to come. The last one is done for ever.
    plans: HashMap<String, VecDeque<Act>>,
    asked: Vec<Asked>,
}

/// A request that came.
#[derive(Debug, Clone)]
struct Asked {
    method: String,
    key: String,
    authorization: String,
    at: Instant,
}

impl Cloud {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, told) = (listener.local_addr().unwrap(), Arc::<Mutex<Told>>::default());
        let shared = told.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let told = shared.clone();
                // A client that hangs up meanwhile has its reasons.
                thread::spawn(move || drop(answer(stream, &told)));
            }
        });
        Self { addr, told }
    }

    fn plan(&self, key: &str, acts: &[Act]) {
        let acts = acts.iter().copied().collect();
        self.told.lock().unwrap().plans.insert(key.to_owned(), acts);
    }

    fn asked(&self) -> Vec<Asked> {
        self.told.lock().unwrap().asked.clone()
    }

    /// The methods of the requests for an object, in order.
    fn asked_for(&self, key: &str) -> Vec<String> {
        let asked = self.asked().into_iter().filter(|asked| asked.key == key);
        asked.map(|asked| asked.method).collect()
    }
}

fn answer(stream: TcpStream, told: &Mutex<Told>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let Some((first, headers)) = lines.split_first() else { return Ok(()) };
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let key = path.strip_prefix("/docs/").expect("an object of the bucket").to_owned();
    let said = headers.iter().filter_map(|line| line.split_once(": "));
    let authorization =
        said.filter(|(name, _)| name.eq_ignore_ascii_case("authorization")).map(|(_, said)| said);
    let authorization = authorization.collect();
    let act = {
        let mut told = told.lock().unwrap();
        let plan = told.plans.get_mut(&key).expect("an object with a plan");
        let act = plan[0];
        if plan.len() > 1 {
            plan.pop_front();
        }
        let (method, key) = (method.to_owned(), key.clone());
        told.asked.push(Asked { method, key, authorization, at: Instant::now() });
        act
    };
    let text = text_of(&key);
    let refusal = |status: u16, also: &str| {
        format!("HTTP/1.1 {status} No\r\n{also}content-length: 0\r\nconnection: close\r\n\r\n")
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\netag: \"tag-of-{key}\"\r\ncontent-type: text/plain\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    let to = stream.get_mut();
    match act {
        Act::Refuse(status) => to.write_all(refusal(status, "").as_bytes()),
        Act::Pause => to.write_all(refusal(429, "retry-after: 1\r\n").as_bytes()),
        Act::BreakOff => {
            to.write_all(head.as_bytes())?;
            to.write_all(&text.as_bytes()[..text.len() / 2])
        }
        Act::Trickle => {
            to.write_all(head.as_bytes())?;
            for piece in text.as_bytes().chunks(text.len() / 10) {
                to.write_all(piece)?;
                // The slowness is what is tested; nothing waits for it.
                thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        }
        Act::Give => {
            to.write_all(head.as_bytes())?;
            to.write_all(text.as_bytes())
        }
    }
}

/// What is in an object; of one chunk.
fn text_of(key: &str) -> String {
    let lines = (0..200).map(|n| format!("This is line {n} of {key}.\n"));
    lines.chain([format!("The anchor of {key} is the last word: anchor")]).collect()
}

/// A server, and the cloud that its connectors look at.
struct Setup {
    server: Server,
    cloud: Cloud,
}

impl Setup {
    fn new() -> Self {
        let options = Options::new(&QUIET)
            .set("CONNECTOR_WORKER_POLL_INTERVAL", "0.1")
            .set("RUN_EMBEDDING_WORKER", "false");
        Self { server: options.start(), cloud: Cloud::new() }
    }

    fn with(tenant: &str) -> Self {
        let setup = Self::new();
        setup.register(tenant);
        setup
    }

    fn register(&self, tenant: &str) {
        let config = json!({
            "bucket": "docs", "endpoint": format!("http://{}", self.cloud.addr),
            "access_key_id": KEY_ID, "secret_access_key": "first/".repeat(7),
        });
        register(&self.server, "s3", tenant, &config);
    }

    /// Has the worker look at an object, for which the cloud has these plans.
    #[track_caller]
    fn look_at(&self, tenant: &str, key: &str, acts: &[Act]) {
        self.cloud.plan(key, acts);
        let uris = [format!("s3://docs/{key}")];
        let body = json!({ "tenant_id": tenant, "dry_run": false, "uris": uris });
        assert_eq!(self.server.post(&at("s3/ingest"), &body).expect(200)["queued_count"], 1);
    }

    /// What is left of a tenant's queue, once nothing waits any more.
    #[track_caller]
    fn settled(&self, tenant: &str) -> Value {
        let status = Request::get(at(&format!("s3/queue-status?tenant_id={tenant}")));
        self.server.until(&status, |answer| answer.json()["pending"] == 0).expect(200)
    }

    /// The only dead letter of a tenant.
    #[track_caller]
    fn letter(&self, tenant: &str) -> Value {
        assert_eq!(self.settled(tenant)["dlq"], 1);
        let dead = self.server.get(&at(&format!("dlq/inspect/s3/{tenant}"))).expect(200);
        let letter = dead["items"][0].clone();
        assert!(!dead.to_string().contains("AKIA") && !dead.to_string().contains("first/"));
        letter
    }

    /// Gives the dead letters of a tenant another try.
    #[track_caller]
    fn replay(&self, tenant: &str) {
        let answer = self.server.post(&at(&format!("dlq/replay/s3/{tenant}")), &json!({}));
        assert_eq!(answer.expect(200), json!({ "replayed": 1, "superseded": 0 }));
    }

    /// The node of an object, or of a part of it.
    #[track_caller]
    fn node(&self, tenant: &str, key: &str, part: &str) -> Answer {
        let external = format!("s3:{tenant}:docs/{key}{part}");
        let query = format!("tenant_id={tenant}&external_id={external}");
        self.server.get(&format!("/nodes/by-external-id?{query}"))
    }

    /// There is a document of the whole object, and nothing went wrong for good.
    #[track_caller]
    fn has_whole(&self, tenant: &str, key: &str) {
        assert_eq!(self.settled(tenant)["dlq"], 0);
        let document = self.node(tenant, key, "").expect(200);
        assert_eq!(document["props"]["etag"], format!("tag-of-{key}"));
        assert_eq!(document["props"]["size"], text_of(key).len());
        let chunk = self.node(tenant, key, "%23chunk0").expect(200);
        assert_eq!(chunk["props"]["text"], text_of(key));
        assert_eq!(chunk["props"]["total_chunks"], 1);
    }

    /// How many changes of a tenant came to this.
    #[track_caller]
    fn processed(&self, tenant: &str, result: &str) -> f64 {
        let labels = format!("provider=\"s3\",result=\"{result}\",tenant=\"{tenant}\"");
        counted(&self.server, &format!("connector_worker_processed_total{{{labels}}}"))
    }

    /// The texts that a search of a tenant for words finds.
    #[track_caller]
    fn found(&self, tenant: &str, words: &str) -> usize {
        let search = json!({ "query": words, "mode": "bm25", "tenant_id": tenant });
        let found = self.server.post("/search", &search).expect(200);
        found["results"].as_array().unwrap().len()
    }
}

#[test]
fn a_cloud_that_recovers_is_asked_until_it_gives_the_whole_object() {
    use Act::{BreakOff, Give, Refuse, Trickle};
    let setup = Setup::new();
    let cases: [(&str, &[Act]); 4] = [
        ("refused", &[Refuse(500), Refuse(500), Give]),
        ("broken", &[BreakOff, Give]),
        ("overloaded", &[Refuse(502), BreakOff, Give]),
        ("slow", &[Trickle]),
    ];
    for (tenant, acts) in cases {
        setup.register(tenant);
        setup.look_at(tenant, &format!("{tenant}.txt"), acts);
    }
    for (tenant, acts) in cases {
        let key = format!("{tenant}.txt");
        setup.has_whole(tenant, &key);
        // What an object is and what is in it come in one answer.
        assert_eq!(setup.cloud.asked_for(&key), vec!["GET"; acts.len()], "{tenant}");
        assert_eq!(setup.processed(tenant, "created"), 1.0, "{tenant}");
    }
}

#[test]
fn a_cloud_that_keeps_failing_makes_a_dead_letter_that_can_be_replayed() {
    let setup = Setup::with("acme");
    setup.look_at("acme", "a.txt", &[Act::Refuse(500)]);
    let letter = setup.letter("acme");
    assert_eq!(
        (&letter["reason"], &letter["attempts"], &letter["error_class"]),
        (&json!("exhausted"), &json!(3), &json!("network"))
    );
    assert_eq!(letter["error"], "network: the service answers 500: the service failed");
    assert_eq!(letter["item"]["uri"], "s3://docs/a.txt");
    assert_eq!(setup.cloud.asked_for("a.txt"), ["GET"; 3]);
    assert_eq!(setup.node("acme", "a.txt", "").status, 404);
    let dead = "provider=\"s3\",reason=\"exhausted\",tenant=\"acme\"";
    let dead = counted(&setup.server, &format!("connector_dlq_total{{{dead}}}"));
    assert_eq!(dead, 1.0);

    setup.cloud.plan("a.txt", &[Act::Give]);
    setup.replay("acme");
    setup.has_whole("acme", "a.txt");
}

#[test]
fn a_cloud_that_wants_to_be_left_alone_is() {
    let setup = Setup::with("acme");
    setup.look_at("acme", "a.txt", &[Act::Pause, Act::Give]);
    setup.server.logged("is left alone for a while");
    // What comes meanwhile asks for nothing either.
    setup.look_at("acme", "b.txt", &[Act::Give]);
    setup.has_whole("acme", "a.txt");
    setup.has_whole("acme", "b.txt");
    assert_eq!(setup.cloud.asked_for("a.txt"), ["GET", "GET"]);
    assert_eq!(setup.cloud.asked_for("b.txt"), ["GET"], "it waited, and did not fail");
    let asked = setup.cloud.asked();
    for later in &asked[1..] {
        let waited = later.at.duration_since(asked[0].at);
        // The server goes by the wall clock, which may be a little faster than this one.
        assert!(waited >= Duration::from_millis(990), "{later:?} after {waited:?}");
    }
}

#[test]
fn credentials_that_are_refused_are_mended_and_the_letter_replayed() {
    let setup = Setup::with("acme");
    setup.look_at("acme", "a.txt", &[Act::Refuse(403)]);
    let letter = setup.letter("acme");
    assert_eq!(
        (&letter["reason"], &letter["attempts"], &letter["error_class"]),
        (&json!("permanent"), &json!(1), &json!("access_denied"))
    );
    assert_eq!(setup.cloud.asked_for("a.txt"), ["GET"]);
    assert_eq!(setup.node("acme", "a.txt", "").status, 404);

    let secrets = json!({ "access_key_id": NEW_KEY_ID, "secret_access_key": "second/".repeat(7) });
    patch(&setup.server, "s3", &json!({ "tenant_id": "acme", "config": secrets })).expect(200);
    setup.cloud.plan("a.txt", &[Act::Give]);
    setup.replay("acme");
    setup.has_whole("acme", "a.txt");
    let asked = setup.cloud.asked();
    let signed = |asked: &Asked, id: &str| {
        asked.authorization.starts_with(&format!("AWS4-HMAC-SHA256 Credential={id}/"))
    };
    assert!(signed(&asked[0], KEY_ID), "{asked:?}");
    assert!(asked[1..].iter().all(|asked| signed(asked, NEW_KEY_ID)), "{asked:?}");
}

#[test]
fn an_object_that_is_gone_takes_its_document_along() {
    let setup = Setup::with("acme");
    setup.look_at("acme", "a.txt", &[Act::Give]);
    setup.has_whole("acme", "a.txt");
    let search = json!({ "query": "anchor", "mode": "bm25", "tenant_id": "acme" });
    let search = Request::post("/search", &search);
    setup.server.until(&search, |answer| answer.json()["count"] == 1);

    setup.look_at("acme", "a.txt", &[Act::Refuse(404)]);
    assert_eq!(setup.settled("acme")["dlq"], 0, "that is no failure");
    let hidden = setup.node("acme", "a.txt", "").expect(200);
    assert_eq!(hidden["classes"], json!(["Document", "Deleted"]));
    assert!(hidden["props"]["deletion_grace_until"].is_string(), "{hidden}");
    assert_eq!(setup.found("acme", "anchor"), 0);

    // Of what was never there, nothing is deleted.
    setup.look_at("acme", "b.txt", &[Act::Refuse(404)]);
    assert_eq!(setup.settled("acme")["dlq"], 0);
    assert_eq!(setup.node("acme", "b.txt", "").status, 404);
    let came = ["created", "deleted", "skipped"].map(|result| setup.processed("acme", result));
    assert_eq!(came, [1.0, 1.0, 1.0]);

    setup.look_at("acme", "a.txt", &[Act::Give]);
    setup.has_whole("acme", "a.txt");
    assert_eq!(setup.node("acme", "a.txt", "").expect(200)["classes"], json!(["Document"]));
}
