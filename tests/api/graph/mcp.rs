//! The graph as tools, by the Model Context Protocol.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{NOBODY, doc, text_of};
use crate::common::token::{JWT_ENV, token};
use crate::common::{Answer, Options, Request, Server};

fn message(id: i64, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

fn call(name: &str, arguments: Value) -> Value {
    message(1, "tools/call", json!({ "name": name, "arguments": arguments }))
}

/// The result of a request that must have one.
#[track_caller]
fn result(server: &Server, message: &Value) -> Value {
    let body = server.post("/mcp", message).expect(200);
    assert_eq!((&body["jsonrpc"], &body["id"]), (&json!("2.0"), &message["id"]));
    assert!(body["result"].is_object(), "{body}");
    body["result"].clone()
}

/// What a tool gives, which its text must give as well.
#[track_caller]
fn used(server: &Server, name: &str, arguments: Value) -> Value {
    let result = result(server, &call(name, arguments));
    assert_eq!(result["isError"], false, "{result}");
    let text = text_of(&result["content"][0]["text"]);
    assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), result["structuredContent"]);
    result["structuredContent"].clone()
}

/// What a tool says that could not do its work.
#[track_caller]
fn failed(answer: &Answer) -> String {
    let body = answer.expect(200);
    assert_eq!(body["result"]["isError"], true, "{body}");
    text_of(&body["result"]["content"][0]["text"])
}

#[track_caller]
fn error(answer: &Answer, status: u16) -> (i64, Value) {
    let body = answer.expect(status);
    (
        body["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {body}")),
        body["id"].clone(),
    )
}

#[test]
fn a_client_introduces_itself() {
    let server = Server::start(&[]);
    for (wanted, agreed) in [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2025-03-26", "2025-03-26"),
        ("2099-01-01", "2025-11-25"),
    ] {
        let params = json!({ "protocolVersion": wanted, "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
        let told = result(&server, &message(1, "initialize", params));
        assert_eq!(told["protocolVersion"], agreed);
        assert_eq!(told["serverInfo"]["name"], "activekg");
        assert!(told["capabilities"]["tools"].is_object() && told["instructions"].is_string());
    }
    let remark = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let taken = server.post("/mcp", &remark);
    assert_eq!((taken.status, taken.text()), (202, ""));
    assert_eq!(result(&server, &message(7, "ping", json!({}))), json!({}));
    for method in ["GET", "DELETE"] {
        assert_eq!(server.send(&Request::new(method, "/mcp")).status, 405, "{method}");
    }
}

#[test]
fn tools_do_what_their_routes_do() {
    let server = Server::start(&[]);
    let listed = result(&server, &message(1, "tools/list", json!({})));
    let names: Vec<String> = listed["tools"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|tool| text_of(&tool["name"]))
        .collect();
    assert_eq!(names, ["search", "ask", "get", "add", "neighbors", "refresh"]);

    let text = "The seal of pump B is checked every week.";
    let add = json!({ "text": text, "title": "Pumps", "metadata": { "site": "B" }, "external_id": "p-1" });
    let id = text_of(&used(&server, "add", add.clone())["id"]);
    let shown = used(&server, "get", json!({ "id": id }));
    assert_eq!(shown, server.get(&format!("/nodes/{id}")).expect(200));
    assert_eq!((&shown["props"]["title"], &shown["classes"]), (&json!("Pumps"), &json!(["Note"])));
    let taken = failed(&server.post("/mcp", &call("add", add)));
    assert_eq!(taken, "external_id already exists");

    let found = used(
        &server,
        "search",
        json!({ "query": "pump seal", "metadata_filters": { "site": "B" } }),
    );
    assert_eq!((&found["results"][0]["id"], &found["mode"]), (&json!(id), &json!("hybrid")));
    let none =
        used(&server, "search", json!({ "query": "pump", "classes": ["Other"], "mode": "text" }));
    assert_eq!(none["count"], 0);
    let answer =
        used(&server, "ask", json!({ "question": "How often is the seal of pump B checked?" }));
    assert_eq!(answer["citations"][0]["node_id"], id.as_str());

    let sheet = text_of(
        &used(&server, "add", json!({ "text": "Vendor sheet.", "classes": ["Sheet"] }))["id"],
    );
    let edge = json!({ "src": id, "dst": sheet, "rel": "DERIVED_FROM" });
    server.post("/edges", &edge).expect(200);
    let around =
        json!({ "id": id, "rel": ["DERIVED_FROM"], "direction": "out", "classes": ["Sheet"] });
    let around = used(&server, "neighbors", around);
    assert_eq!((&around["count"], &around["neighbors"][0]["id"]), (&json!(1), &json!(sheet)));
    let refreshed = used(&server, "refresh", json!({ "id": id }));
    assert_eq!((&refreshed["id"], refreshed["drift_score"].is_number()), (&json!(id), true));
}

#[test]
fn what_a_tool_cannot_do_is_a_result() {
    let server = Server::start(&[]);
    let say = |name: &str, arguments: Value| failed(&server.post("/mcp", &call(name, arguments)));
    assert_eq!(say("get", json!({ "id": NOBODY })), "Node not found");
    assert_eq!(say("neighbors", json!({ "id": "xyz" })), "Node not found");
    assert_eq!(say("refresh", json!({ "id": NOBODY })), "Node not found");
    assert_eq!(say("search", json!({})), "query: Field required");
    assert_eq!(say("search", json!({ "query": "x", "k": 1 })), "k: Extra inputs are not permitted");
    assert!(say("ask", json!({ "question": " " })).contains("Question cannot be empty"));
    assert!(say("search", json!({ "query": "x", "top_k": 101 })).starts_with("top_k: "));
    assert!(say("neighbors", json!({ "id": NOBODY, "rel": "R" })).starts_with("rel: "));
    assert!(say("add", json!({ "text": "" })).starts_with("text: "));
}

#[test]
fn what_is_no_request_is_an_error_of_the_protocol() {
    let server = Server::start(&[]);
    let raw = |body: &str| server.send(&Request::new("POST", "/mcp").raw(body));
    assert_eq!(error(&raw("{"), 400), (-32700, Value::Null));
    assert_eq!(error(&raw(""), 400).0, -32600);
    assert_eq!(error(&raw("1"), 400).0, -32600);
    assert_eq!(
        error(&raw(r#"{"jsonrpc":"2.0","id":3,"method":"ping","params":[1]}"#), 400),
        (-32600, json!(3))
    );
    assert_eq!(error(&raw(r#"{"jsonrpc":"2.0","id":3,"method":"a\u0000b"}"#), 400).0, -32600);
    let form = Request::new("POST", "/mcp").header("content-type", "text/plain");
    let form = form.raw(message(1, "ping", json!({})).to_string());
    assert_eq!(error(&server.send(&form), 400).0, -32600, "a form of another site's page");
    let answer = |message: Value| error(&server.post("/mcp", &message), 200).0;
    assert_eq!(answer(message(1, "resources/list", json!({}))), -32601);
    assert_eq!(answer(message(1, "initialize", json!({}))), -32602);
    assert_eq!(answer(message(1, "tools/list", json!({ "cursor": "x" }))), -32602);
    assert_eq!(answer(message(1, "tools/call", json!({ "name": "drop" }))), -32602);
    assert_eq!(answer(message(1, "tools/call", json!({}))), -32602);
    assert_eq!(answer(message(1, "tools/call", json!({ "name": "get", "arguments": 1 }))), -32602);
}

#[test]
fn batches_are_for_versions_that_have_them() {
    let server = Server::start(&[]);
    let batch = json!([
        message(1, "ping", json!({})),
        { "jsonrpc": "2.0", "method": "notifications/initialized" },
        message(2, "initialize", json!({ "protocolVersion": "2025-03-26" })),
        7,
    ]);
    let answers = server.post("/mcp", &batch).expect(200);
    let codes: Vec<(Value, Value)> = answers
        .as_array()
        .expect("a list")
        .iter()
        .map(|answer| (answer["id"].clone(), answer["error"]["code"].clone()))
        .collect();
    let expected =
        [(json!(1), Value::Null), (json!(2), json!(-32600)), (Value::Null, json!(-32600))];
    assert_eq!(codes, expected);
    let remarks = json!([{ "jsonrpc": "2.0", "method": "notifications/initialized" }]);
    assert_eq!(server.post("/mcp", &remarks).status, 202);
    assert_eq!(error(&server.post("/mcp", &json!([])), 400).0, -32600);
    let crowd: Vec<Value> = (0..51).map(|n| message(n, "ping", json!({}))).collect();
    assert_eq!(error(&server.post("/mcp", &crowd.into()), 400).0, -32600);
    let versioned = |version: &str| {
        server.send(&Request::post("/mcp", &batch).header("mcp-protocol-version", version))
    };
    assert_eq!(versioned("2025-03-26").status, 200);
    assert_eq!(error(&versioned("2025-06-18"), 400).0, -32600);
    let unknown = versioned("2099-01-01").expect(400);
    assert_eq!(unknown["error"]["code"], -32022);
    assert_eq!(unknown["error"]["data"]["requested"], "2099-01-01");
}

#[test]
fn pages_of_other_sites_are_turned_away() {
    let server = Options::new(&[("CORS_ENABLED", "true")])
        .set("CORS_ORIGINS", "https://kg.example.org")
        .start();
    let from = |origin: &str| {
        let ping = Request::post("/mcp", &message(1, "ping", json!({})));
        server.send(&ping.header("origin", origin)).status
    };
    for good in ["http://localhost:3000", "http://127.0.0.1", "https://kg.example.org"] {
        assert_eq!(from(good), 200, "{good}");
    }
    for bad in ["http://evil.example", "null", "http://localhost.evil.example:8000"] {
        assert_eq!(from(bad), 403, "{bad}");
    }
}

#[test]
fn a_tool_needs_the_scope_of_its_route_and_keeps_to_the_tenant() {
    let server = Options::new(&JWT_ENV).set("AUTHZ_MODE", "scopes").start();
    let refused = server.post("/mcp", &message(1, "ping", json!({}))).expect(401);
    let text = text_of(&refused["error"]["message"]);
    assert_eq!(text, "Missing Authorization header. JWT required for this endpoint.");
    let send = |message: &Value, tenant: &str, scopes: &[&str]| {
        server.send(&Request::post("/mcp", message).bearer(&token(tenant, scopes)))
    };
    for (name, arguments, scope) in [
        ("search", json!({ "query": "x" }), "search:read"),
        ("ask", json!({ "question": "x" }), "ask:read"),
        ("get", json!({ "id": NOBODY }), "search:read"),
        ("add", json!({ "text": "x" }), "kg:write"),
        ("neighbors", json!({ "id": NOBODY }), "search:read"),
        ("refresh", json!({ "id": NOBODY }), "kg:write"),
    ] {
        let missing = failed(&send(&call(name, arguments.clone()), "t1", &["admin:refresh"]));
        let expected = format!("Insufficient permissions. Required scope: {scope}");
        assert_eq!(missing, expected, "{name}");
        let allowed = send(&call(name, arguments), "t1", &[scope]).expect(200);
        assert!(!allowed.to_string().contains("Insufficient"), "{name}: {allowed}");
    }
    let node = Request::post("/nodes", &doc("of one")).bearer(&token("t1", &["kg:write"]));
    let id = text_of(&server.send(&node).expect(200)["id"]);
    let other = send(&call("get", json!({ "id": id })), "t2", &["search:read"]);
    assert_eq!(failed(&other), "Node not found");
}

#[test]
fn uses_of_tools_count_as_requests_to_their_routes() {
    let server = Server::start(&[
        ("RATE_LIMIT_ENABLED", "true"),
        ("RATE_LIMIT_ASK_BURST", "2"),
        ("RATE_LIMIT_ASK_RATE", "0.001"),
    ]);
    let ask = call("ask", json!({ "question": "Who?" }));
    let batch = Value::from(vec![ask; 3]);
    let answers = server.post("/mcp", &batch).expect(200);
    let limited: Vec<bool> = answers
        .as_array()
        .expect("a list")
        .iter()
        .map(|answer| answer.to_string().contains("Rate limit exceeded"))
        .collect();
    assert_eq!(limited, [false, false, true], "{answers}");
    assert_eq!(answers[2]["result"]["isError"], true);
    assert_eq!(server.post("/ask", &json!({ "question": "Who?" })).status, 429);
}

/// What `activekg mcp` says to these lines, with what it ends.
fn bridged(options: &Options, server: &Server, lines: &[Value], arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["mcp"], arguments].concat();
    let mut command = options.command(server.dir(), &arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("start the bridge");
    let mut input = child.stdin.take().expect("stdin is piped");
    for line in lines {
        writeln!(input, "{line}").expect("write a line");
    }
    drop(input);
    let output = child.wait_with_output().expect("wait for the bridge");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("nothing but messages")).collect()
}

#[test]
fn the_bridge_brings_lines_to_the_server_and_back() {
    let options = Options::new(&[]);
    let server = options.clone().start();
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {} });
    let lines = [
        message(1, "initialize", params),
        json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        message(2, "tools/call", json!({ "name": "add", "arguments": { "text": "Pump B." } })),
        message(3, "nonsense", json!({})),
    ];
    let mut answers = bridged(&options, &server, &lines, &["--tenant", "acme"]);
    answers.sort_by_key(|answer| answer["id"].as_i64());
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[0]["result"]["protocolVersion"], "2025-06-18");
    assert_eq!(answers[2]["error"]["code"], -32601);
    let id = text_of(&answers[1]["result"]["structuredContent"]["id"]);
    server.get(&format!("/nodes/{id}?tenant_id=acme")).expect(200);
    assert_eq!(server.get(&format!("/nodes/{id}")).status, 404);
}

#[test]
fn the_bridge_shows_a_token_and_tells_of_refusals() {
    let options = Options::new(&JWT_ENV);
    let server = options.clone().start();
    let url = format!("http://{}", server.addr());
    let ping = [message(5, "ping", json!({}))];
    let token = token("t1", &[]);
    let good = bridged(&options, &server, &ping, &["--url", &url, "--token", &token]);
    assert_eq!(good, [json!({ "jsonrpc": "2.0", "id": 5, "result": {} })]);
    let bad = bridged(&options, &server, &ping, &["--url", &url, "--token", "garbage"]);
    assert_eq!((&bad[0]["id"], &bad[0]["error"]["code"]), (&json!(5), &json!(-32000)));
    let local = bridged(&options, &server, &ping, &[]);
    assert_eq!(local, good, "over the admin socket no token is needed");
}

#[test]
fn without_a_server_the_bridge_says_so_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = Options::new(&[]).command(dir.path(), &["mcp"]).output().expect("run it");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("no server runs on"), "{text}");
}
