//! What holds for every route, whichever it is: the description of the API says which there are.

use serde_json::Value;

use super::NOBODY;
use crate::common::token::{JWT_ENV, token};
use crate::common::{Options, Request, Server};

/// Largest body of these servers.
const BODY_MAX: usize = 2000;

/// Routes whose bodies and errors follow another description than ours.
const FOREIGN: [&str; 3] = ["/v1/", "/mcp", "/_webhooks/"];

struct Described {
    path: String,
    methods: Vec<String>,
    /// The methods that take JSON, and whether they need it.
    json: Vec<(String, bool)>,
}

fn described(server: &Server) -> Vec<Described> {
    let description = server.get("/openapi.json").expect(200);
    let paths = description["paths"].as_object().expect("paths").iter();
    let own = paths.filter(|(path, _)| !FOREIGN.iter().any(|prefix| path.starts_with(prefix)));
    own.map(|(path, methods)| {
        let methods = methods.as_object().expect("methods");
        let takes_json = |(name, route): (&String, &Value)| {
            let body = &route["requestBody"];
            let needed = body["required"] == true;
            (!body["content"]["application/json"].is_null()).then(|| (name.to_uppercase(), needed))
        };
        Described {
            path: path
                .replace("{id}", NOBODY)
                .replace("{queue}", "embedding")
                .replace("{provider}", "s3")
                .replace("{tenant}", "acme")
                .replace("{name}", "x"),
            methods: methods.keys().map(|name| name.to_uppercase()).collect(),
            json: methods.iter().filter_map(takes_json).collect(),
        }
    })
    .collect()
}

#[test]
fn other_methods_are_named() {
    let server = Server::start(&[]);
    for Described { path, methods, .. } in described(&server) {
        let mut allowed = methods.clone();
        allowed.sort();
        let others = ["PATCH", "HEAD", "TRACE", "PROPFIND"];
        for method in others.into_iter().filter(|other| !methods.iter().any(|m| m == other)) {
            let answer = server.send(&Request::new(method, path.clone()));
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.header("allow"), Some(allowed.join(", ").as_str()), "{path}");
        }
    }
}

#[test]
fn a_slash_at_the_end_leads_to_the_path_without() {
    let server = Server::start(&[]);
    for Described { path, methods, .. } in described(&server) {
        let answer = server.send(&Request::new(&methods[0], format!("{path}/?a=b")));
        assert_eq!(answer.status, 307, "{path}");
        let location = answer.header("location").expect("a location");
        let bare = path.trim_end_matches('/');
        assert!(location.ends_with(&format!("{bare}?a=b")), "{location}");
    }
}

#[test]
fn bodies_that_are_no_json_or_too_long_are_refused_after_the_token_was_looked_at() {
    let size = BODY_MAX.to_string();
    let server = Options::new(&JWT_ENV).set("MAX_REQUEST_SIZE_BYTES", &size).start();
    let good = token("t1", &["super_admin"]);
    let mut n = 0;
    for Described { path, json, .. } in described(&server) {
        for (method, needed) in json {
            n += 1;
            let at = format!("{method} {path}");
            let with = |body: Vec<u8>| {
                Request::new(&method, path.clone())
                    .header("content-type", "application/json")
                    .raw(body)
            };
            assert_eq!(server.send(&with(b"{".to_vec())).status, 401, "{at}");
            for broken in [&b"{"[..], b"{\"a\":}", b"[1,", b"nul", b"{\"a\":1}}"] {
                let answer = server.send(&with(broken.to_vec()).bearer(&good));
                let (kind, _, _) = answer.expect_fault();
                assert_eq!(kind, "json_invalid", "{at} {}", String::from_utf8_lossy(broken));
            }
            let nothing = server.send(&with(Vec::new()).bearer(&good));
            assert_eq!(nothing.status == 422, needed, "{at}: {}", nothing.text());
            let text = server.send(&with(b"\xff\xfe".to_vec()).bearer(&good));
            assert!([400, 422].contains(&text.status), "{at}: {}", text.status);
            for request in
                [with(vec![b' '; BODY_MAX + 1]), with(vec![b' '; BODY_MAX + 1]).chunked()]
            {
                let answer = server.send(&request.bearer(&good));
                assert_eq!((answer.status, answer.text()), (413, "Request too large"), "{at}");
            }
        }
    }
    assert!(n >= 10, "{n} routes take JSON");
}

#[test]
fn nobody_is_let_in_where_a_token_is_needed() {
    let server = Options::new(&JWT_ENV).start();
    let description = server.get("/openapi.json").expect(200);
    for (path, methods) in description["paths"].as_object().expect("paths") {
        for (method, route) in methods.as_object().expect("methods") {
            if route["security"].as_array().is_none_or(Vec::is_empty) {
                continue;
            }
            let target = path.replace("{id}", NOBODY).replace("{queue}", "embedding");
            let target = target.replace("{provider}", "s3");
            let request = Request::new(&method.to_uppercase(), target.replace("{name}", "x"));
            assert_eq!(server.send(&request).status, 401, "{method} {path}");
            let other = request.bearer("e30.e30.e30");
            assert_eq!(server.send(&other).status, 401, "{method} {path}");
        }
    }
}
