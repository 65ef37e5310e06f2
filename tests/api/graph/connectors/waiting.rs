//! What waits in the queues of changes before there is a connector, and what others put there.

use std::time::{SystemTime, UNIX_EPOCH};

use activekg_storage::queue::{self, NewJob, QueueDef};
use activekg_storage::{JobId, Store, StoreOptions, TenantId, UnixMicros};
use serde_json::{Value, json};

use super::at;
use super::site::{Site, counted};
use crate::api::graph::operator::{Client, address};
use crate::common::Request;

const QUEUE: QueueDef = QueueDef::named("connector:local");
const STATUS: &str = "local/queue-status?tenant_id=default";

#[test]
fn what_is_queued_before_its_connector_is_there_waits_for_it() {
    let mut site = Site::new(&[("ACTIVEKG_RESP_LISTEN", "127.0.0.1:0")]);
    site.write("a.txt", "The anchor is heavy.");
    let mut client = Client::new(address(&site.server));
    let item = json!({ "uri": site.uri("a.txt") }).to_string();
    client.send(&["LPUSH", "connector:local:default:queue", &item]);
    assert_eq!(client.reply(), 1);
    let held = |site: &Site| {
        let queue = site.server.get(&at("local/queue?tenant_id=default")).expect(200);
        assert_eq!(queue["depth"], 1, "{queue}");
        let item = &queue["items"][0];
        (item["state"].clone(), item["held"].clone(), item["attempts"].clone())
    };
    let expected = (json!("held"), json!("no_config"), json!(0));
    assert_eq!(held(&site), expected);
    assert_eq!(site.settled("default")["pending"], 1);

    // It outlives the process, however that ends, and a connector of another tenant is none.
    site.server.kill();
    site.server.start_again(&[]);
    site.register("acme");
    site.take("acme");
    assert_eq!(held(&site), expected);
    let none =
        format!("tenant_id=default&external_id=local:default:{}/a.txt", site.folder.display());
    assert_eq!(site.server.get(&format!("/nodes/by-external-id?{none}")).status, 404);

    site.register("default");
    let status = Request::get(at(STATUS));
    let done = site.server.until(&status, |answer| answer.json()["pending"] == 0).expect(200);
    assert_eq!(done["dlq"], 0);
    site.finds("anchor", &["a.txt"]);
}

/// Puts items into the queue as another version may have written them. The server must be stopped.
fn put(site: &Site, items: &[(String, Vec<u8>)]) {
    let store = Store::open(site.server.dir(), StoreOptions::default()).unwrap();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = UnixMicros(i64::try_from(since.as_micros()).unwrap());
    let items = items.to_vec();
    let written = store.write_blocking(move |tx| {
        for (key, payload) in &items {
            let job = NewJob {
                id: JobId::at(now),
                tenant: TenantId::new("default").unwrap(),
                key: Some(key.clone()),
                payload: payload.clone(),
                rank: None,
                run_at: None,
                now,
            };
            queue::enqueue(tx, &QUEUE, job)?;
        }
        Ok::<_, activekg_storage::StorageError>(())
    });
    written.unwrap();
    store.close();
}

#[test]
fn items_of_another_version_are_understood_or_kept_and_hold_up_no_other() {
    // One place, so that an item that held it would hold up the rest.
    let one = ("CONNECTOR_WORKER_BATCH_SIZE", "1");
    let mut site = Site::new(&[one, ("CONNECTOR_WORKER_CONCURRENCY", "1")]);
    site.register("default");
    site.write("newer.txt", "The newer one is a steamer.");
    site.write("plain.txt", "The plain one is a barge.");
    assert!(site.server.terminate().success());
    let newer = json!({
        "uri": site.uri("newer.txt"), "operation": "annotated", "format": 9, "source": "satellite",
        "parts": [{ "from": 0 }], "etag": null, "attempts": 2,
    });
    let plain = json!({ "uri": site.uri("plain.txt"), "operation": "upsert" });
    let nowhere = json!({ "operation": "upsert", "address": site.uri("plain.txt") });
    put(
        &site,
        &[
            ("no JSON".to_owned(), b"\xff\x00 this is no JSON {".to_vec()),
            ("no uri".to_owned(), nowhere.to_string().into_bytes()),
            (site.uri("newer.txt"), newer.to_string().into_bytes()),
            (site.uri("plain.txt"), plain.to_string().into_bytes()),
        ],
    );
    site.server.start_again(&[]);
    let status = Request::get(at(STATUS));
    let done = site.server.until(&status, |answer| answer.json()["pending"] == 0).expect(200);
    assert_eq!(done["dlq"], 2);
    for name in ["newer.txt", "plain.txt"] {
        assert_eq!(site.document("default", name)["props"]["title"], name);
    }
    site.finds("steamer barge", &["newer.txt", "plain.txt"]);

    let dead = site.server.get(&at("dlq/inspect/local/default?from=oldest")).expect(200);
    let letters = dead["items"].as_array().unwrap();
    for letter in letters {
        assert_eq!(
            (&letter["reason"], &letter["error_class"], &letter["attempts"]),
            (&json!("parse"), &json!("parse"), &json!(1))
        );
    }
    assert_eq!((&letters[0]["item"], &letters[1]["item"]), (&Value::Null, &nowhere));
    let labels = "provider=\"local\",tenant=\"default\"";
    let errors = |kind: &str| {
        let name = format!("connector_worker_errors_total{{error_type=\"{kind}\",{labels}}}");
        counted(&site.server, &name)
    };
    assert_eq!((errors("parse"), errors("change_item")), (1.0, 1.0));
}
