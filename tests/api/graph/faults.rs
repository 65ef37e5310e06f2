//! Malformed input and clients that misbehave: a defined answer, nothing changed, nothing told.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use super::{NOBODY, doc};
use crate::common::http::Connection;
use crate::common::{Request, Server};

/// Asserts that the server still serves and that no request has made it panic.
fn unharmed(server: &mut Server, nodes: u64) {
    assert!(server.is_alive());
    assert_eq!(server.get("/nodes").expect(200)["total"], nodes);
    let log = server.log().to_lowercase();
    assert!(!log.contains("panicked"), "{log}");
    let errors = server.get("/prometheus");
    assert!(!errors.text().contains("internal_error"), "{}", errors.text());
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    let mut server = Server::start(&[]);
    for (body, place) in [
        ("{", 1),
        ("nope", 0),
        (r#"{"query":}"#, 9),
        (r#"{"query":"x",}"#, 13),
        (r#"{"query":NaN}"#, 9),
        (r#"{"query":Infinity}"#, 9),
        (r#"{"query":-Infinity}"#, 9),
        ("{\"query\":\"a\nb\"}", 11),
        (r#"{"query":"x"} {}"#, 14),
        (r#"{"query":"\x"}"#, 10),
        (r#"{"query":"\u0000"}"#, 10),
        ("[1,", 3),
    ] {
        let answer = server.send(&Request::new("POST", "/search").raw(body));
        let (kind, loc, msg) = answer.expect_fault();
        assert_eq!((kind.as_str(), msg.as_str()), ("json_invalid", "JSON decode error"), "{body}");
        assert_eq!(loc, json!(["body", place]), "{body}");
    }
    for body in [&b"\xff\xfe{"[..], b"{\"query\":\"\xff\"}"] {
        let answer = server.send(&Request::new("POST", "/search").raw(body));
        assert!([400, 422].contains(&answer.status), "{body:?}: {}", answer.status);
    }
    let marked = Request::new("POST", "/search").raw(&b"\xef\xbb\xbf{\"query\":\"x\"}"[..]);
    assert_eq!(server.send(&marked).status, 200, "a byte order mark is let pass");
    unharmed(&mut server, 0);
}

#[test]
fn nul_is_refused_wherever_it_stands() {
    let mut server = Server::start(&[]);
    let id = server.create(&doc("clean"));
    let nul = |method: &str, path: &str, body: &str| {
        let answer = server.send(&Request::new(method, path).raw(body));
        assert_eq!(answer.status, 422, "{method} {path} {body}: {}", answer.text());
    };
    nul("POST", "/nodes", r#"{"classes":["D"],"props":{"a":"\u0000"}}"#);
    nul("POST", "/nodes", r#"{"classes":["D"],"props":{"\u0000":1}}"#);
    nul("POST", "/nodes", r#"{"classes":["\u0000"],"props":{}}"#);
    nul("POST", "/nodes", r#"{"classes":["D"],"props":{},"metadata":{"a":[["x\u0000y"]]}}"#);
    nul("PUT", &format!("/nodes/{id}"), r#"{"props":{"text":"\u0000"}}"#);
    nul("POST", "/edges", &format!(r#"{{"src":"{id}","dst":"{id}","rel":"\u0000"}}"#));
    nul("POST", "/search", r#"{"query":"\u0000"}"#);
    nul("POST", "/ask", r#"{"question":"what\u0000?"}"#);
    for path in [
        "/nodes/%00",
        "/lineage/%00",
        "/nodes?classes=%00",
        "/events?event_type=%00",
        "/nodes/by-external-id?external_id=%00",
        "/debug/intent?q=%00",
    ] {
        let answer = server.get(path);
        assert!(answer.status < 500, "{path}: {}", answer.text());
    }
    unharmed(&mut server, 1);
}

#[test]
fn deep_and_wide_bodies_do_no_harm() {
    let mut server = Server::start(&[]);
    let nested = |open: &str, close: &str, depth: usize| {
        let (opened, closed) = (open.repeat(depth), close.repeat(depth));
        let body = format!(r#"{{"classes":["D"],"props":{{"d":{opened}1{closed}}}}}"#);
        server.send(&Request::new("POST", "/nodes").raw(body)).status
    };
    assert_eq!(nested("[", "]", 100), 200);
    assert_eq!(nested(r#"{"a":"#, "}", 100), 200);
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        for depth in [1000, 100_000, 1_000_000] {
            assert!([400, 422].contains(&nested(open, close, depth)), "{depth} {open}");
        }
    }
    let open_only = server.send(&Request::new("POST", "/nodes").raw("[".repeat(2_000_000)));
    assert!([400, 422].contains(&open_only.status));
    let wide: Value =
        (0..20_000).map(|n| (format!("k{n}"), json!(n))).collect::<serde_json::Map<_, _>>().into();
    server.post("/nodes", &json!({ "classes": ["W"], "props": wide })).expect(200);
    let digits = format!(r#"{{"classes":["N"],"props":{{"n":{}}}}}"#, "9".repeat(100_000));
    assert!([400, 422].contains(&server.send(&Request::new("POST", "/nodes").raw(digits)).status));
    let filter = json!({ "query": "x", "metadata_filters": wide, "compound_filter": wide });
    assert!(server.post("/search", &filter).status < 500);
    unharmed(&mut server, 3);
}

#[test]
fn malformed_ids_name_nothing() {
    let mut server = Server::start(&[]);
    for id in [
        "x",
        "123",
        "%20",
        "00000000-0000-4000-8000-00000000000g",
        "'%20OR%201=1",
        "%F0%9F%9A%80",
        &"a".repeat(3000),
    ] {
        for (method, path, status) in [
            ("GET", format!("/nodes/{id}"), 404),
            ("PUT", format!("/nodes/{id}"), 404),
            ("DELETE", format!("/nodes/{id}"), 404),
            ("POST", format!("/nodes/{id}/refresh"), 404),
            ("GET", format!("/nodes/{id}/versions"), 200),
            ("GET", format!("/lineage/{id}"), 200),
            ("GET", format!("/events?node_id={id}"), 200),
        ] {
            let request = Request::new(method, path);
            let request = if method == "PUT" { request.json(&json!({})) } else { request };
            let answer = server.send(&request);
            assert_eq!(answer.status, status, "{method} {}: {}", request.target, answer.text());
            let lists =
                ["versions", "ancestors", "events"].map(|list| answer.json().get(list).cloned());
            assert!(lists.iter().flatten().all(|list| list == &json!([])), "{}", answer.text());
        }
        let edge = json!({ "src": id, "dst": NOBODY, "rel": "R" });
        assert_eq!(server.post("/edges", &edge).status, 422, "{id}");
    }
    // A slash that is escaped is part of the id, which is none.
    assert_eq!(server.get("/nodes/..%2f..%2fetc%2fpasswd").expect_detail(404), "Node not found");
    let id = server.create(&doc("any case"));
    server.get(&format!("/nodes/{}", id.to_uppercase())).expect(200);
    unharmed(&mut server, 1);
}

#[test]
fn numbers_out_of_range_are_the_clients_fault() {
    let mut server = Server::start(&[]);
    for query in [
        "nodes?limit=-1",
        "nodes?limit=99999999999999999999",
        "nodes?offset=-1",
        "nodes?offset=9999999999999999999999",
        "nodes?limit=1.5",
        "nodes?limit=",
        "nodes?limit=NaN",
        "events?limit=-1",
        "events?limit=99999999999999999999",
        "lineage/x?max_depth=99999999999999999999",
        "lineage/x?max_depth=a",
    ] {
        assert_eq!(server.get(&format!("/{query}")).status, 422, "{query}");
    }
    for bad in [
        json!({ "top_k": 1e300 }),
        json!({ "top_k": -1 }),
        json!({ "top_k": true, "x": "\u{1F680}" }),
        json!({ "top_k": [] }),
        json!({ "decay_lambda": "x" }),
        json!({ "drift_beta": 2 }),
        json!({ "min_similarity": 5 }),
    ] {
        let mut search = json!({ "query": "x" });
        search.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
        let status = server.post("/search", &search).status;
        // Booleans are numbers to a lenient reader.
        assert!(status == 422 || (status == 200 && bad["top_k"] == true), "{bad}: {status}");
    }
    unharmed(&mut server, 0);
}

#[test]
fn wrong_types_get_the_catalogued_fault() {
    let mut server = Server::start(&[]);
    for (path, body, kind, loc) in [
        ("/nodes", json!({ "classes": ["D"], "props": 1 }), "dict_type", json!(["body", "props"])),
        ("/nodes", json!({ "classes": {}, "props": {} }), "list_type", json!(["body", "classes"])),
        (
            "/nodes",
            json!({ "classes": ["D"], "props": {}, "triggers": [7] }),
            "dict_type",
            json!(["body", "triggers", 0]),
        ),
        ("/search", json!({ "query": 5 }), "string_type", json!(["body", "query"])),
        (
            "/search",
            json!({ "query": "x", "top_k": "many" }),
            "int_parsing",
            json!(["body", "top_k"]),
        ),
        (
            "/search",
            json!({ "query": "x", "use_hybrid": 7 }),
            "bool_parsing",
            json!(["body", "use_hybrid"]),
        ),
        ("/ask", json!({ "question": ["?"] }), "string_type", json!(["body", "question"])),
        (
            "/nodes/batch",
            json!({ "nodes": [[]] }),
            "model_attributes_type",
            json!(["body", "nodes", 0]),
        ),
    ] {
        let fault = server.post(path, &body).expect_fault();
        assert_eq!((fault.0.as_str(), fault.1), (kind, loc), "{path} {body}");
    }
    unharmed(&mut server, 0);
}

#[test]
fn a_client_that_goes_away_leaves_no_half_write() {
    let mut server = Server::start(&[]);
    let body = doc("half a node").to_string();
    for _ in 0..20 {
        // Part of a body, then nothing.
        let mut socket = TcpStream::connect(server.addr()).unwrap();
        let head = format!(
            "POST /nodes HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(&body.as_bytes()[..10]).unwrap();
        drop(socket);
        // Part of a chunk, then an end that is none.
        let mut socket = TcpStream::connect(server.addr()).unwrap();
        socket.write_all(b"POST /nodes HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nffff\r\n{\"cl").unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    // A stream that nobody reads to its end.
    server.create(&doc("The seal of the pump is checked every week."));
    for _ in 0..5 {
        let mut connection = Connection::open(server.addr()).unwrap();
        let question = json!({ "question": "How often is the seal checked?" }).to_string();
        let head = format!(
            "POST /ask/stream HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{question}",
            question.len()
        );
        connection.socket().write_all(head.as_bytes()).unwrap();
        let mut first = [0; 12];
        connection.socket().read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
    }
    unharmed(&mut server, 1);
}

#[test]
fn a_slow_client_keeps_nobody_waiting() {
    let mut server = Server::start(&[]);
    let body = doc("letter by letter").to_string();
    let mut connections: Vec<Connection> =
        (0..50).map(|_| Connection::open(server.addr()).unwrap()).collect();
    let head = format!(
        "POST /nodes HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    for connection in &mut connections {
        connection.socket().write_all(head.as_bytes()).unwrap();
        connection.socket().write_all(&body.as_bytes()[..5]).unwrap();
    }
    server.create(&doc("meanwhile"));
    assert_eq!(server.post("/search", &json!({ "query": "meanwhile" })).expect(200)["count"], 1);
    let slow = &mut connections[0];
    for byte in &body.as_bytes()[5..] {
        slow.socket().write_all(&[*byte]).unwrap();
    }
    slow.read("POST").unwrap().expect(200);
    drop(connections);
    unharmed(&mut server, 2);
}

#[test]
fn what_is_no_http_gets_no_further() {
    let mut server = Server::start(&[]);
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /nodes HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n",
        b"POST /nodes HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n",
        b"POST /nodes HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"POST /nodes HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\r\n\r\n\r\n",
        b"GET /nodes\x00 HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let mut socket = TcpStream::connect(server.addr()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket.write_all(garbage).unwrap();
        // The server may have closed already.
        let _ = socket.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{garbage:?}: {answer}");
    }
    let long = Request::get(format!("/nodes?x={}", "a".repeat(200_000))).send_to(server.addr());
    assert!(long.is_err() || long.is_ok_and(|answer| (400..500).contains(&answer.status)));
    unharmed(&mut server, 0);
}

#[test]
fn connections_are_kept_and_pipelined() {
    let server = Server::start(&[]);
    let mut connection = Connection::open(server.addr()).unwrap();
    for n in 0..50 {
        let created =
            connection.send(&Request::post("/nodes", &doc(&format!("kept {n}")))).unwrap();
        created.expect(200);
        assert_eq!(connection.send(&Request::get("/nowhere")).unwrap().status, 404);
        assert_eq!(connection.send(&Request::new("HEAD", "/health")).unwrap().status, 405);
    }
    let both = b"GET /health HTTP/1.1\r\nhost: a\r\n\r\nGET /nowhere HTTP/1.1\r\nhost: a\r\n\r\n";
    connection.socket().write_all(both).unwrap();
    assert_eq!(connection.read("GET").unwrap().status, 200);
    assert_eq!(connection.read("GET").unwrap().status, 404);
}
