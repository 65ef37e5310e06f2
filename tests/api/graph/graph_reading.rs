//! Neighbours, paths and parts of the graph.

use serde_json::{Value, json};

use super::{NOBODY, doc, text_of};
use crate::common::token::{JWT_ENV, token};
use crate::common::{Options, Request, Server};

/// Settings under which a node is there at once and its vector later.
const QUICK: [(&str, &str); 1] = [("EMBEDDING_ASYNC", "true")];

fn connect(server: &Server, src: &str, rel: &str, dst: &str) {
    let edge =
        json!({ "src": src, "dst": dst, "rel": rel, "props": { "name": format!("{rel}!") } });
    server.post("/edges", &edge).expect(200);
}

/// Relation, direction and far end of the neighbours.
fn neighbors(server: &Server, query: &str) -> Vec<(String, String, String)> {
    let body = server.get(&format!("/graph/neighbors?{query}")).expect(200);
    let rows = body["neighbors"].as_array().expect("a list");
    assert_eq!(body["count"], rows.len());
    let row = |row: &Value| {
        assert_eq!(row["edge_props"]["name"], format!("{}!", text_of(&row["rel"])));
        assert!(row["props"]["text"].is_string() && row["created_at"].is_string(), "{row}");
        (text_of(&row["rel"]), text_of(&row["direction"]), text_of(&row["id"]))
    };
    rows.iter().map(row).collect()
}

/// Six nodes: 0 -R-> 1 -R-> 2, 0 -S-> 3 -R-> 2, 4 -R-> 0, 1 -R-> 1; 5 is by itself.
fn world(server: &Server) -> Vec<String> {
    let classes = ["Doc", "Doc", "Part", "Part", "Doc", "Doc"];
    let node = |(n, class): (usize, &str)| {
        server.create(&json!({ "classes": [class], "props": { "text": format!("node {n}") } }))
    };
    let ids: Vec<String> = classes.into_iter().enumerate().map(node).collect();
    for (src, rel, dst) in
        [(0, "R", 1), (1, "R", 2), (0, "S", 3), (3, "R", 2), (4, "R", 0), (1, "R", 1)]
    {
        connect(server, &ids[src], rel, &ids[dst]);
    }
    ids
}

#[test]
fn neighbors_are_filtered_and_counted() {
    let server = Server::start(&QUICK);
    let ids = world(&server);
    let row = |rel: &str, way: &str, n: usize| (rel.to_owned(), way.to_owned(), ids[n].clone());
    let of = |query: &str| neighbors(&server, &format!("id={}{query}", ids[0]));
    let mut by_r = vec![row("R", "out", 1), row("R", "in", 4)];
    by_r.sort_by(|a, b| a.2.cmp(&b.2));
    assert_eq!(of(""), [by_r.clone(), vec![row("S", "out", 3)]].concat());
    assert_eq!(of("&rel=R"), by_r);
    assert_eq!(of("&rel=S,T"), [row("S", "out", 3)]);
    assert_eq!(of("&direction=in"), [row("R", "in", 4)]);
    assert_eq!(of("&classes=Part"), [row("S", "out", 3)]);
    assert_eq!(of("&rel=T"), []);
    let itself = neighbors(&server, &format!("id={}&rel=R", ids[1]));
    assert_eq!(itself.iter().filter(|(.., id)| *id == ids[1]).count(), 1, "a loop counts once");

    let cut = server.get(&format!("/graph/neighbors?id={}&limit=2", ids[0])).expect(200);
    assert_eq!((&cut["count"], &cut["truncated"]), (&json!(2), &json!(true)));
    assert_eq!(cut["node_id"], ids[0].as_str());
    let whole = server.get(&format!("/graph/neighbors?id={}&limit=3", ids[0])).expect(200);
    assert_eq!(whole["truncated"], false);
}

#[test]
fn a_path_alternates_nodes_and_edges() {
    let server = Server::start(&QUICK);
    let ids = world(&server);
    let path = |from: usize, to: usize, more: &str| {
        server.get(&format!("/graph/path?from={}&to={}{more}", ids[from], ids[to])).expect(200)
    };
    let body = path(0, 2, "");
    assert_eq!((&body["found"], &body["length"]), (&json!(true), &json!(2)));
    let pieces = body["path"].as_array().expect("a list");
    let types: Vec<&Value> = pieces.iter().map(|piece| &piece["type"]).collect();
    assert_eq!(types, ["node", "edge", "node", "edge", "node"]);
    // Of two ways the one by R comes before the one by S.
    assert_eq!((&pieces[1]["rel"], &pieces[2]["id"]), (&json!("R"), &json!(ids[1])));
    assert_eq!((&pieces[1]["src"], &pieces[1]["dst"]), (&json!(ids[0]), &json!(ids[1])));
    assert_eq!(pieces[1]["props"]["name"], "R!");
    assert_eq!(pieces[4]["props"]["text"], "node 2");

    // Against an edge, whose ends stay as they are.
    let back = path(0, 4, "");
    assert_eq!((&back["path"][1]["src"], &back["length"]), (&json!(ids[4]), &json!(1)));
    assert_eq!(path(0, 4, "&direction=out")["found"], false);
    assert_eq!(path(0, 3, "&rel=R")["length"], 3);
    assert_eq!(path(0, 3, "&rel=R&max_depth=2")["found"], false);
    let none = path(0, 5, "&max_depth=10");
    let gone = (&none["found"], &none["length"], &none["path"], &none["truncated"]);
    assert_eq!(gone, (&json!(false), &Value::Null, &json!([]), &json!(false)));
    let itself = path(5, 5, "");
    assert_eq!((&itself["length"], itself["path"].as_array().map(Vec::len)), (&json!(0), Some(1)));
}

#[test]
fn a_subgraph_has_nodes_by_depth_and_the_edges_between() {
    let server = Server::start(&QUICK);
    let ids = world(&server);
    let part = |more: &str| server.get(&format!("/graph/subgraph?id={}{more}", ids[0])).expect(200);
    let depths = |body: &Value| {
        let nodes = body["nodes"].as_array().expect("a list").iter();
        let place = |id: &Value| ids.iter().position(|known| id == known).expect("a node");
        let mut depths: Vec<(usize, i64)> = nodes
            .map(|node| (place(&node["id"]), node["depth"].as_i64().expect("a depth")))
            .collect();
        depths.sort_unstable();
        depths
    };
    let edges = |body: &Value| body["edges"].as_array().expect("a list").len();
    let near = part("&depth=1");
    assert_eq!(depths(&near), [(0, 0), (1, 1), (3, 1), (4, 1)]);
    assert_eq!((edges(&near), &near["truncated"]), (4, &json!(false)), "with the loop at 1");
    let all = part("&depth=10");
    assert_eq!(depths(&all), [(0, 0), (1, 1), (2, 2), (3, 1), (4, 1)]);
    assert_eq!(edges(&all), 6);
    assert_eq!(depths(&part("&depth=2&direction=out&rel=R")), [(0, 0), (1, 1), (2, 2)]);
    assert_eq!(depths(&part("&depth=2&classes=Part")), [(0, 0), (2, 2), (3, 1)]);
    let cut = part("&depth=2&limit=2");
    assert_eq!((depths(&cut).len(), &cut["truncated"]), (2, &json!(true)));
}

#[test]
fn a_soft_deleted_node_stops_a_walk() {
    let server = Server::start(&QUICK);
    let ids = world(&server);
    server.delete(&format!("/nodes/{}", ids[1])).expect(200);
    server.delete(&format!("/nodes/{}", ids[3])).expect(200);
    assert_eq!(neighbors(&server, &format!("id={}", ids[0])).len(), 1);
    let path = format!("/graph/path?from={}&to={}", ids[0], ids[2]);
    assert_eq!(server.get(&path).expect(200)["found"], false);
    // Who has its id can read it, and what is around it.
    assert_eq!(neighbors(&server, &format!("id={}", ids[3])).len(), 2);
}

#[test]
fn bad_queries_are_refused() {
    let server = Server::start(&QUICK);
    let id = server.create(&doc("x"));
    for (target, place) in [
        ("/graph/neighbors".to_owned(), "id"),
        (format!("/graph/neighbors?id={id}&limit=-1"), "limit"),
        (format!("/graph/neighbors?id={id}&limit=99999999999999999999"), "limit"),
        (format!("/graph/neighbors?id={id}&direction=up"), "direction"),
        (format!("/graph/path?from={id}"), "to"),
        (format!("/graph/path?from={id}&to={id}&max_depth=0"), "max_depth"),
        (format!("/graph/path?from={id}&to={id}&max_depth=11"), "max_depth"),
        (format!("/graph/subgraph?id={id}&depth=x"), "depth"),
        (format!("/graph/subgraph?id={id}&depth=11"), "depth"),
    ] {
        let (_, loc, _) = server.get(&target).expect_fault();
        assert_eq!(loc, json!(["query", place]), "{target}");
    }
    for target in [
        format!("/graph/neighbors?id={NOBODY}"),
        "/graph/neighbors?id=xyz".to_owned(),
        format!("/graph/path?from={id}&to={NOBODY}"),
        format!("/graph/path?from=xyz&to={id}"),
        format!("/graph/subgraph?id={NOBODY}"),
    ] {
        assert_eq!(server.get(&target).expect_detail(404), "Node not found", "{target}");
    }
}

#[test]
fn a_walk_keeps_to_its_tenant() {
    let server = Options::new(&JWT_ENV).set("EMBEDDING_ASYNC", "true").start();
    let (t1, t2) = (token("t1", &[]), token("t2", &[]));
    let create = |token: &str, text: &str| {
        let made = server.send(&Request::post("/nodes", &doc(text)).bearer(token)).expect(200);
        text_of(&made["id"])
    };
    let (a, b) = (create(&t1, "one"), create(&t1, "two"));
    let other = create(&t2, "three");
    let edge = json!({ "src": a, "dst": b, "rel": "R" });
    server.send(&Request::post("/edges", &edge).bearer(&t1)).expect(200);
    for target in [
        format!("/graph/neighbors?id={a}"),
        format!("/graph/subgraph?id={a}"),
        format!("/graph/path?from={a}&to={b}"),
        format!("/graph/path?from={other}&to={b}"),
    ] {
        let refused = server.send(&Request::get(&target).bearer(&t2));
        assert_eq!(refused.expect_detail(404), "Node not found", "{target}");
    }
    let own = server.send(&Request::get(format!("/graph/path?from={a}&to={b}")).bearer(&t1));
    assert_eq!(own.expect(200)["length"], 1);
}

#[test]
fn a_search_shows_what_is_around_its_hits() {
    let server = Server::start(&[]);
    let manual = server.create(&doc("The seal of the pump is checked every week."));
    let sheet = server.create(&doc("Vendor sheet, revision 7."));
    let drawing = server.create(&doc("Drawing 12 of the casing."));
    connect(&server, &manual, "DERIVED_FROM", &sheet);
    connect(&server, &drawing, "MENTIONS", &sheet);
    let query = |expand: Value| json!({ "query": "pump seal", "top_k": 1, "expand": expand });
    let hit = |expand: Value| {
        let body = server.post("/search", &query(expand)).expect(200);
        assert_eq!(body["results"][0]["id"], manual.as_str());
        body["results"][0].clone()
    };
    let plain = hit(Value::Null);
    assert!(plain.get("expanded").is_none() && plain.get("expanded_truncated").is_none());
    let near = hit(json!({ "rel": ["DERIVED_FROM"], "direction": "out" }));
    let expected = json!([{ "id": sheet, "rel": "DERIVED_FROM", "direction": "out", "depth": 1,
        "classes": ["Doc"], "props": near["expanded"][0]["props"] }]);
    assert_eq!((&near["expanded"], &near["expanded_truncated"]), (&expected, &json!(false)));
    assert_eq!(near["expanded"][0]["props"]["text"], "Vendor sheet, revision 7.");
    let far = hit(json!({ "depth": 2 }));
    assert_eq!(far["expanded"][1]["id"], drawing.as_str());
    assert_eq!(far["expanded"][1]["direction"], "in");
    let cut = hit(json!({ "depth": 2, "limit": 1 }));
    let cut = (cut["expanded"].as_array().map(Vec::len), &cut["expanded_truncated"]);
    assert_eq!(cut, (Some(1), &json!(true)));
    assert_eq!(hit(json!({ "direction": "in" }))["expanded"], json!([]));

    for (bad, place) in [
        (json!({ "rel": "R" }), json!(["body", "expand", "rel"])),
        (json!({ "depth": 4 }), json!(["body", "expand", "depth"])),
        (json!({ "limit": 0 }), json!(["body", "expand", "limit"])),
        (json!({ "direction": "up" }), json!(["body", "expand", "direction"])),
        (json!({ "hops": 1 }), json!(["body", "expand", "hops"])),
        (json!([]), json!(["body", "expand"])),
    ] {
        assert_eq!(server.post("/search", &query(bad)).expect_fault().1, place);
    }
}
