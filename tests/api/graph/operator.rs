//! What operators look at from the command line, and what Redis clients are told.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::connectors::sources::refusing;
use super::doc;
use crate::common::token::{JWT_ENV, token};
use crate::common::{Options, Request, Server};

const CANARY: &str = "canary-0123456789-canary-0123456789-canary";
const ENV: &[(&str, &str)] = &[("AUTO_EMBED_ON_CREATE", "false")];

fn run(server: &Server, line: &str) -> Output {
    let arguments: Vec<&str> = line.split(' ').collect();
    Options::new(&[]).command(server.dir(), &arguments).output().unwrap()
}

#[track_caller]
fn says(server: &Server, line: &str) -> String {
    let output = run(server, line);
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json_of(server: &Server, line: &str) -> Value {
    serde_json::from_str(&says(server, &format!("{line} --json"))).unwrap()
}

fn register(server: &Server) {
    let config = json!({ "bucket": "docs", "access_key_id": CANARY, "secret_access_key": CANARY });
    let body = json!({ "tenant_id": "acme", "config": config });
    server.post("/_admin/connectors/s3/register", &body).expect(200);
}

#[test]
fn an_operator_sees_how_the_server_is() {
    let server = Server::start(ENV);
    server.create(&doc("a node"));
    server.create(&json!({ "classes": ["Chunk"], "props": { "parent_id": "d" } }));
    let gone = server.create(&doc("gone"));
    server.delete(&format!("/nodes/{gone}")).expect(200);
    register(&server);

    let status = says(&server, "status");
    for part in ["server  ok, version", "ready   yes", "bus     ok connector:config:changed"] {
        assert!(status.contains(part), "{part}: {status}");
    }
    assert!(status.contains("embedding"), "{status}");
    assert_eq!(json_of(&server, "status")["ready"], true);
    assert_eq!(says(&server, "bus channels"), "connector:config:changed\n");
    server.get("/_admin/connectors/s3?tenant_id=acme").expect(200);
    assert_eq!(says(&server, "cache flush"), "flushed 1 connectors\n");
    assert_eq!(says(&server, "cache flush"), "flushed 0 connectors\n");
    assert!(says(&server, "embedding status").contains("nodes  skipped"), "counts");
    let requeued = json_of(&server, "embedding requeue --status skipped --limit 1");
    assert_eq!(requeued["enqueued"], 1);
    let activity = json_of(&server, "db activity");
    assert_eq!(activity["writable"], true);
    assert!(says(&server, "index list").lines().count() <= 2);
    assert!(
        says(&server, "index ensure").contains("hnsw") || !says(&server, "index ensure").is_empty()
    );

    let came = json_of(&server, "stats ingest --hours 2");
    let hours = came["ingested"].as_array().unwrap();
    let sum = |name: &str| hours.iter().map(|hour| hour[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("documents"), sum("chunks")), (2, 1), "{came}");
    let deleted = json_of(&server, "stats deleted --older-than 30d");
    let expected =
        json!({ "tenant_id": null, "deleted": 1, "older": 0, "due": 0, "without_grace": 0 });
    assert_eq!(deleted, expected);
    assert!(says(&server, "stats deleted --tenant other").starts_with("deleted 0\n"));
    assert!(!run(&server, "stats deleted --older-than soon").status.success());
    assert!(!run(&server, "stats ingest --hours 0").status.success());

    let offline = run(&server, "index rebuild text");
    assert!(!offline.status.success(), "while the server runs");
}

#[test]
fn the_index_of_words_is_built_anew_from_the_store() {
    let mut server = Server::start(ENV);
    let id = server.create(&doc("the zeppelin lands at noon"));
    assert!(server.terminate().success());
    says(&server, "index rebuild text");
    assert!(!server.dir().join("index/text").exists());
    server.start_again(&[]);
    let search = json!({ "query": "zeppelin", "mode": "bm25" });
    assert_eq!(super::ids(&server.post("/search", &search)), [id]);
    let nobody = tempfile::tempdir().unwrap();
    let refused = Options::new(&[]).command(nobody.path(), &["status"]).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no server runs on"));
}

#[test]
fn no_secret_is_in_the_settings_or_in_a_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("server.log");
    let server = Options::new(ENV)
        .set("LOG_LEVEL", "DEBUG")
        .set("ACTIVEKG_LOG_FILE", log.to_str().unwrap())
        .set("JWT_ENABLED", "true")
        .set("JWT_ALGORITHM", "HS256")
        .set("JWT_SECRET_KEY", CANARY)
        .set("REDIS_URL", &format!("redis://:{CANARY}@cache/0"))
        .set("OPENAI_API_KEY", CANARY)
        .set("CONNECTOR_KEK_V12", "XJH_LEyC34c8orsnRbFR5Rvac7FF0J4ah30u7HIORXM=")
        .set("CONNECTOR_KEK_ACTIVE_VERSION", "12")
        .set("PURGER_BATCH_SIZE", "77")
        .start();
    let shown = says(&server, "config show");
    assert!(shown.contains("PURGER_BATCH_SIZE=77\n"), "{shown}");
    assert!(shown.contains("JWT_SECRET_KEY=sha256:"), "{shown}");
    assert!(shown.contains("CONNECTOR_KEK_V12=sha256:"), "{shown}");

    let config = dir.path().join("connector.json");
    for (provider, settings) in [
        (
            "s3",
            json!({
                "bucket": "docs", "access_key_id": CANARY, "secret_access_key": CANARY,
                "session_token": CANARY, "endpoint": format!("http://{}", refusing()),
            }),
        ),
        ("gcs", json!({ "bucket": "docs", "credentials_json": CANARY })),
        ("azure", json!({ "container": "docs", "connection_string": CANARY })),
        ("http", json!({ "urls": ["https://example.org/a"], "bearer_token": CANARY })),
    ] {
        fs::write(&config, settings.to_string()).unwrap();
        let line = format!("connectors register {provider} --tenant acme --config");
        says(&server, &format!("{line} {}", config.display()));
    }
    let labels = r#"error_type="list_changes",provider="s3",tenant="acme""#;
    let polled = format!("connector_poller_errors_total{{{labels}}} 1");
    server.until(&Request::get("/prometheus"), |answer| answer.text().contains(&polled));

    let bundle = server.dir().join("bundle");
    let line = format!("support-bundle --out {} --log {}", bundle.display(), log.display());
    assert!(says(&server, &line).contains("files"));
    assert!(!run(&server, &line).status.success(), "what is there is not mixed with another");
    let mut n = 0;
    for file in fs::read_dir(&bundle).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for secret in [CANARY, "XJH_LEyC34c8orsnRbFR5Rvac7FF0J4ah30u7HIORXM"] {
            assert!(!text.contains(secret) && !shown.contains(secret), "{}", path.display());
        }
        assert!(!text.contains("\"detail\""), "{}: {text}", path.display());
        n += 1;
    }
    assert!(n >= 15, "{n} files");
    let told = fs::read_to_string(&log).unwrap();
    assert!(told.contains("acme"), "it tells of connectors");
    assert!(!told.contains(CANARY), "{told}");
    let metrics = fs::read_to_string(bundle.join("metrics.txt")).unwrap();
    assert!(metrics.contains("connector_purger_total"));
}

#[test]
fn addresses_that_are_set_are_tried() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::start(ENV);
    assert_eq!(says(&server, "net check"), "no addresses are set\n");
    let config = json!({ "urls": [format!("http://{}/feed", taken.local_addr().unwrap())] });
    let register = |config: &Value| {
        let body = json!({ "tenant_id": "default", "config": config });
        server.post("/_admin/connectors/http/register", &body).expect(200);
    };
    register(&config);
    let said = says(&server, "net check");
    assert!(said.starts_with("http/default\t127.0.0.1:") && said.ends_with("\tok\n"), "{said}");
    register(&json!({ "urls": [format!("http://{free}/feed")] }));
    let failed = run(&server, "net check");
    assert!(!failed.status.success(), "{failed:?}");
}

#[test]
fn extraction_is_off_and_says_so() {
    let server = Options::new(ENV).set("EXTRACTION_ENABLED", "true").start();
    server.create(&doc("never"));
    for status in ["ready", "queued", "ready", "odd"] {
        let props = json!({ "text": "x", "extraction_status": status });
        server.create(&json!({ "classes": ["Doc"], "props": props }));
    }
    let expected = json!({
        "enabled": false, "mode": "async", "tenant_id": "default",
        "status_counts": { "none": 1, "other": 1, "queued": 1, "ready": 2 },
        "queue": { "queue": 0, "retry": 0, "dlq": 0 },
    });
    assert_eq!(server.get("/admin/extraction/status?tenant_id=default").expect(200), expected);
    assert_eq!(server.get("/admin/extraction/status").expect(200)["tenant_id"], Value::Null);
    let requeue = |body: Value| server.post("/admin/extraction/requeue", &body);
    for body in [json!({}), json!({ "status": null, "limit": 5 }), json!({ "status": "ready" })] {
        assert_eq!(requeue(body).expect_detail(503), "Extraction not enabled");
    }
    requeue(json!({ "limit": "many" })).expect(422);
    server.logged("EXTRACTION_ENABLED is ignored");
}

/// A Redis client.
pub(super) struct Client(BufReader<TcpStream>);

impl Client {
    pub(super) fn new(addr: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(addr).unwrap()))
    }

    pub(super) fn send(&mut self, words: &[&str]) {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.get_mut().write_all(command.as_bytes()).unwrap();
    }

    /// A reply: errors begin with a minus, lists are arrays.
    pub(super) fn reply(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let (kind, rest) = line.trim_end().split_at_checked(1).expect("a reply");
        match kind {
            "+" => rest.into(),
            "-" => format!("-{rest}").into(),
            ":" => rest.parse::<i64>().unwrap().into(),
            "$" if rest == "-1" => Value::Null,
            "$" => {
                let mut text = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.0.read_exact(&mut text).unwrap();
                String::from_utf8(text).unwrap().trim_end().into()
            }
            "*" => (0..rest.parse::<usize>().unwrap()).map(|_| self.reply()).collect(),
            other => panic!("no reply begins with {other}"),
        }
    }

    fn ask(&mut self, line: &str) -> Value {
        self.send(&line.split(' ').collect::<Vec<_>>());
        self.reply()
    }
}

/// Where the server listens for Redis clients.
pub(super) fn address(server: &Server) -> SocketAddr {
    let log = server.logged("Redis clients are answered on");
    let line = log.lines().find(|line| line.contains("Redis clients are answered on")).expect("it");
    let start = line.find("127.0.0.1:").expect("an address");
    let rest = &line[start..];
    let end =
        rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).unwrap_or(rest.len());
    rest[..end].parse().expect("an address")
}

#[test]
fn redis_clients_see_the_queues() {
    let server = Options::new(ENV)
        .set("ACTIVEKG_RESP_LISTEN", "127.0.0.1:0")
        .set("RUN_EMBEDDING_WORKER", "false")
        .start();
    let addr = address(&server);
    let mut client = Client::new(addr);
    assert_eq!(client.ask("PING"), "PONG");
    assert_eq!(client.ask("select 0"), "OK");
    assert_eq!(client.ask("SELECT 1"), "-ERR DB index is out of range");
    assert_eq!(client.ask("NONSENSE a"), "-ERR unknown command 'NONSENSE'");
    assert_eq!(client.ask("LLEN"), "-ERR wrong number of arguments for 'llen' command");

    let key = "connector:gcs:default:queue";
    for name in ["a", "b", "c"] {
        let item =
            json!({ "uri": format!("gs://b/{name}"), "modified_at": "2026-01-02T03:04:05Z" });
        client.send(&["LPUSH", key, &item.to_string()]);
        client.reply();
    }
    assert_eq!(client.ask(&format!("LLEN {key}")), 3);
    let item = |reply: &Value| serde_json::from_str::<Value>(reply.as_str().unwrap()).unwrap();
    let oldest = item(&client.ask(&format!("LINDEX {key} -1")));
    assert_eq!((&oldest["uri"], &oldest["operation"]), (&json!("gs://b/a"), &json!("upsert")));
    assert!(oldest["modified_at"].as_str().unwrap().starts_with("2026-01-02T03:04:05"));
    assert_eq!(item(&client.ask(&format!("LINDEX {key} 0")))["uri"], "gs://b/c");
    assert_eq!(client.ask(&format!("LINDEX {key} 3")), Value::Null);
    assert_eq!(client.ask(&format!("LINDEX {key} -4")), Value::Null);
    assert_eq!(client.ask(&format!("LRANGE {key} 0 10")).as_array().unwrap().len(), 3);
    assert_eq!(
        client.ask(&format!("LRANGE {key} 1 1"))[0].as_str().map(|i| i.contains("gs://b/b")),
        Some(true)
    );
    assert_eq!(client.ask("KEYS *"), json!([key]));
    assert_eq!(client.ask("SCAN 0 MATCH connector:*:queue COUNT 10"), json!(["0", [key]]));
    assert_eq!(client.ask(&format!("EXISTS {key} nothing")), 1);
    assert_eq!(client.ask(&format!("LTRIM {key} 0 0")), "OK");
    assert_eq!(client.ask(&format!("LLEN {key}")), 1);
    assert_eq!(item(&client.ask(&format!("LINDEX {key} -1")))["uri"], "gs://b/c");
    assert!(client.ask(&format!("LTRIM {key} 1 5")).as_str().unwrap().starts_with("-ERR only"));
    assert!(client.ask(&format!("DEL {key}")).as_str().unwrap().starts_with("-ERR only"));
    assert_eq!(client.ask("DEL connector:gcs:default:dlq"), 0);
    assert!(client.ask("LPUSH embedding:queue x").as_str().unwrap().starts_with("-ERR only"));
    assert!(client.ask(&format!("LPUSH {key} x")).as_str().unwrap().contains("not JSON"));
    assert_eq!(client.ask("LRANGE connector:gcs:default:dlq 0 10"), json!([]));
    assert_eq!(client.ask("LRANGE dlq:gcs:default 0 10"), json!([]));

    let id = server.create(&doc("to be embedded"));
    let body = json!({ "node_ids": [id] });
    assert_eq!(server.post("/admin/embedding/requeue", &body).expect(200)["enqueued"], 1);
    assert_eq!(client.ask("LLEN embedding:queue"), 1);
    assert_eq!(item(&client.ask("LINDEX embedding:queue 0"))["node_id"], id);
    assert_eq!(
        (client.ask("ZCARD embedding:retry"), client.ask("LLEN embedding:dlq")),
        (json!(0), json!(0))
    );
    assert_eq!(client.ask(&format!("EXISTS embedding:pending:{id}")), 1);
    assert_eq!(client.ask("GET embedding:tenant:pending:default"), "1");
    assert_eq!(client.ask("GET embedding:tenant:pending:other"), Value::Null);

    register(&server);
    let members = client.ask("SMEMBERS connector:active_tenants");
    assert_eq!(item(&members[0]), json!({ "provider": "s3", "tenant_id": "acme" }));
    assert_eq!(client.ask("PUBSUB CHANNELS"), json!(["connector:config:changed"]));
    client.send(&["PUBLISH", "connector:config:changed", "{"]);
    assert_eq!(client.reply(), 1);
    client.send(&[
        "PUBLISH",
        "connector:config:changed",
        r#"{"tenant_id":"acme","provider":"s3","operation":"upsert"}"#,
    ]);
    assert_eq!(client.reply(), 1);
    let metrics = server.get("/prometheus");
    assert!(
        metrics.text().contains(r#"connector_pubsub_invalid_msg_total{reason="invalid_json"} 1"#)
    );
    assert_eq!(client.ask("FLUSHDB"), "OK");
    assert_eq!(client.ask(&format!("LLEN {key}")), 1, "queues are no cache");
    assert!(client.ask("INFO").as_str().unwrap().contains("redis_version:"));
    assert_eq!(client.ask("QUIT"), "OK");

    let mut page = TcpStream::connect(addr).unwrap();
    page.write_all(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nFLUSHDB\r\n").unwrap();
    let mut said = String::new();
    page.read_to_string(&mut said).unwrap();
    assert_eq!(said, "-ERR this is not HTTP\r\n", "and no more");
    let mut noise = TcpStream::connect(addr).unwrap();
    noise.write_all(b"*1\r\n$999999999\r\n").unwrap();
    said.clear();
    noise.read_to_string(&mut said).unwrap();
    assert_eq!(said, "-ERR Protocol error: invalid bulk length\r\n");
}

#[test]
fn redis_clients_need_the_password_if_there_is_one() {
    let server = Options::new(ENV)
        .set("ACTIVEKG_RESP_LISTEN", "127.0.0.1:0")
        .set("ACTIVEKG_RESP_PASSWORD", CANARY)
        .start();
    let addr = address(&server);
    let mut client = Client::new(addr);
    assert_eq!(client.ask("PING"), "-NOAUTH Authentication required.");
    assert!(client.ask("AUTH wrong").as_str().unwrap().starts_with("-WRONGPASS"));
    assert_eq!(client.ask(&format!("AUTH {CANARY}")), "OK");
    assert_eq!(client.ask("PING"), "PONG");
    let mut guesser = Client::new(addr);
    for _ in 0..3 {
        assert!(guesser.ask("AUTH wrong").as_str().unwrap().starts_with("-WRONGPASS"));
    }
    let mut rest = Vec::new();
    assert_eq!(guesser.0.read_to_end(&mut rest).unwrap(), 0, "it is closed");
    assert!(!server.log().contains(CANARY));
}

#[test]
fn the_lines_of_the_guides_work_with_redis_cli() {
    if Command::new("redis-cli").arg("--version").output().is_err() {
        println!("skipped: redis-cli is not installed");
        return;
    }
    let server = Options::new(ENV).set("ACTIVEKG_RESP_LISTEN", "127.0.0.1:0").start();
    let port = address(&server).port().to_string();
    let cli = |arguments: &[&str]| {
        let mut command = Command::new("redis-cli");
        let output =
            command.args(["-h", "127.0.0.1", "-p", &port]).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    };
    let key = "connector:gcs:default:queue";
    assert_eq!(cli(&["ping"]), "PONG");
    assert_eq!(cli(&["PUBSUB", "CHANNELS"]), "connector:config:changed");
    assert_eq!(cli(&["LLEN", key]), "0");
    assert_eq!(cli(&["LPUSH", key, r#"{"uri":"gs://b/a","operation":"upsert"}"#]), "1");
    let item: Value = serde_json::from_str(&cli(&["--raw", "LINDEX", key, "-1"])).unwrap();
    assert_eq!(item["uri"], "gs://b/a");
    assert_eq!(cli(&["LTRIM", key, "0", "0"]), "OK");
    assert_eq!(cli(&["LLEN", key]), "1");
    assert_eq!(cli(&["LRANGE", "connector:gcs:default:dlq", "0", "10"]), "");
    assert_eq!(cli(&["FLUSHDB"]), "OK");
    assert_eq!(cli(&["LLEN", key]), "1");
}

#[test]
fn the_number_of_workers_changes_while_the_server_runs() {
    let server = Server::start(&[("CONNECTOR_WORKER_CONCURRENCY", "2")]);
    let running = |n: u64| {
        let health = Request::get("/health");
        server.until(&health, |answer| {
            answer.json()["components"]["workers"]["connector"]["running"] == n
        });
    };
    running(2);
    assert!(says(&server, "workers status").contains("connector\t2\t2\t0\n"));
    let said = says(&server, "workers scale connector 5");
    assert!(said.contains("2 before, 5 until the server ends"), "{said}");
    running(5);
    assert_eq!(says(&server, "workers restart"), "5 connector workers began anew\n");
    running(5);
    says(&server, "workers scale connector 0");
    running(0);
    says(&server, "workers scale connector 1");
    running(1);
    assert_eq!(json_of(&server, "workers status")["workers"][0]["wanted"], 1);
    let trail = says(&server, "audit --action workers. --since 1h");
    for (act, n) in [("workers.scale", 3), ("workers.restart", 1)] {
        assert_eq!(trail.matches(act).count(), n, "{trail}");
    }
    assert!(trail.lines().nth(1).unwrap().contains("local administrator"), "{trail}");
    for bad in
        ["workers scale connector 65", "workers scale embedding 1", "workers scale connector"]
    {
        assert!(!run(&server, bad).status.success(), "{bad}");
    }
    server.post("/_admin/workers/embedding/scale", &json!({ "workers": 1 })).expect(404);
    server.post("/_admin/workers/connector/scale", &json!({ "workers": 65 })).expect(422);
}

#[test]
fn the_audit_trail_is_read_by_whom_it_concerns() {
    let server = Server::start(&JWT_ENV);
    let admin = token("default", &["super_admin"]);
    let as_admin = |request: Request| server.send(&request.bearer(&admin)).expect(200);
    let config = json!({ "urls": ["https://example.org/a"], "bearer_token": "canary-token" });
    for tenant in ["acme", "harbor"] {
        let body = json!({ "tenant_id": tenant, "config": config });
        as_admin(Request::post("/_admin/connectors/http/register", &body));
    }
    as_admin(Request::new("POST", "/admin/queues/embedding/pause"));
    let acts = |list: &Value| -> Vec<String> {
        let entries = list["entries"].as_array().unwrap().iter();
        entries.map(|entry| format!("{} {}", entry["action"], entry["tenant_id"])).collect()
    };
    let all = as_admin(Request::get("/_admin/audit"));
    let expected = [
        r#""queue.pause" null"#,
        r#""connector.register" "harbor""#,
        r#""connector.register" "acme""#,
    ];
    assert_eq!((acts(&all), &all["next"]), (expected.map(str::to_owned).to_vec(), &Value::Null));
    assert!(
        all["entries"].as_array().unwrap().iter().all(|entry| entry["actor"] == "user-of-default")
    );
    assert!(!all.to_string().contains("canary"));
    let first = as_admin(Request::get("/_admin/audit?limit=2"));
    let rest = format!("/_admin/audit?limit=2&before={}", first["next"].as_str().unwrap());
    assert_eq!(acts(&as_admin(Request::get(rest))), expected[2..]);
    let chosen = "/_admin/audit?action=connector.&tenant_id=acme&actor=user-of-default&within=1h";
    assert_eq!(acts(&as_admin(Request::get(chosen))), expected[2..]);

    let own = token("acme", &["admin:refresh"]);
    let seen = server.send(&Request::get("/_admin/audit").bearer(&own)).expect(200);
    assert_eq!(acts(&seen), expected[2..], "what was done to its own data");
    let other = Request::get("/_admin/audit?tenant_id=harbor").bearer(&own);
    server.send(&other).expect(403);
    for bad in ["limit=0", "before=x", "within=soon"] {
        let bad = Request::get(format!("/_admin/audit?{bad}")).bearer(&admin);
        server.send(&bad).expect(422);
    }
}

#[test]
fn workers_that_are_off_stay_off() {
    let server = Server::start(&[("RUN_CONNECTOR_WORKER", "false")]);
    let refused = server.post("/_admin/workers/connector/scale", &json!({ "workers": 1 }));
    assert!(refused.expect(409)["detail"].as_str().unwrap().contains("RUN_CONNECTOR_WORKER"));
    server.post("/_admin/workers/connector/restart", &json!({})).expect(409);
    assert_eq!(server.get("/_admin/workers").expect(200)["workers"][0]["wanted"], 0);
}

#[test]
fn a_source_is_looked_at_and_a_connector_changed() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("docs");
    fs::create_dir_all(base.join("below")).unwrap();
    fs::write(base.join("below/sample.pdf"), "not a page description").unwrap();
    fs::write(base.join("other.md"), "# Other").unwrap();
    let base = base.to_str().unwrap();
    let server = Server::start(&[("ACTIVEKG_FILE_BASEDIRS", base), ("RUN_SCHEDULER", "false")]);
    let body = json!({ "tenant_id": "acme", "config": { "path": base } });
    server.post("/_admin/connectors/local/register", &body).expect(200);

    let sample = format!("file://{base}/below/sample.pdf");
    let listed = says(&server, "connectors test local --tenant acme --list below/");
    assert!(listed.contains(&sample) && !listed.contains("other.md"), "{listed}");
    let below = json_of(&server, "connectors test local --tenant acme --list below/ --limit 1");
    assert_eq!((&below["objects_found"], &below["more"]), (&json!(1), &json!(false)));
    assert_eq!(below["objects"][0]["size"], 22);
    let plain = says(&server, "connectors test local --tenant acme");
    assert_eq!(plain, "Successfully connected to local folder\n");
    let stat = says(&server, &format!("connectors stat --uri {sample} --tenant acme"));
    assert!(stat.starts_with("22\t") && !stat.contains("text/plain"), "{stat}");
    let detected = says(&server, &format!("connectors stat --uri {sample} --tenant acme --detect"));
    assert!(detected.contains("by its bytes: text/plain"), "{detected}");
    for bad in [
        format!("connectors stat --uri {sample}"),
        format!("connectors stat --uri file://{base}/none --tenant acme"),
        "connectors stat --uri file:///etc/hostname --tenant acme --detect".to_owned(),
        "connectors stat --uri ftp://somewhere --tenant acme".to_owned(),
    ] {
        assert!(!run(&server, &bad).status.success(), "{bad}");
    }
    let both = json!({ "tenant_id": "acme", "list": "", "uri": sample });
    server.post("/_admin/connectors/local/test", &both).expect(422);

    let said = says(&server, "connectors set local --tenant acme poll_interval_seconds=120");
    assert_eq!(said, "updated acme/local\n");
    register(&server);
    let key = dir.path().join("key");
    fs::write(&key, format!("{CANARY}\n")).unwrap();
    let set = format!("connectors set s3 --tenant acme secret_access_key=@{}", key.display());
    assert!(!says(&server, &set).contains(CANARY));
    let shown = says(&server, "connectors get s3 --tenant acme");
    assert!(shown.contains("***REDACTED***") && !shown.contains(CANARY), "{shown}");
    let short = run(&server, "connectors set s3 --tenant acme secret_access_key=canary-short");
    assert!(!short.status.success());
    assert!(!String::from_utf8_lossy(&short.stderr).contains("canary-short"), "{short:?}");
}
