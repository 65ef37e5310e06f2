//! Cloud Storage, against a server that speaks its JSON interface.

use super::*;

fn source(addr: SocketAddr) -> Source {
    let emulator = format!("http://{addr}/").parse().ok();
    let parts = Parts { storage_emulator: emulator, ..Parts::of_test() };
    open(Provider::Gcs, json!({ "bucket": "docs" }), parts)
}

#[tokio::test]
async fn objects_are_listed_and_read_by_generation() {
    let names = ["./x", "a//b", "a b/ü%.txt", "..", "z"];
    let object = |name: &str| {
        json!({"name": name, "generation": "17", "etag": "CBE=", "size": "4",
            "updated": "2026-10-21T07:28:00.000Z", "contentType": "text/plain"})
    };
    let addr = serve(move |asked| {
        let rest_of_it = asked.path.strip_prefix("/storage/v1/b/docs/o").expect("the bucket");
        if let Some(name) = rest_of_it.strip_prefix('/') {
            assert!(!name.contains('/'), "{name}");
            let name = rest::decoded(name, false).unwrap();
            if !names.contains(&name.as_str()) {
                return reply(404, &[], "{}");
            }
            return match asked.query("alt") {
                "media" if asked.query("generation") == "17" => reply(200, &[], name),
                "media" => reply(404, &[], ""),
                _ => reply(200, &[], object(&name).to_string()),
            };
        }
        let from: usize = asked.query("pageToken").parse().unwrap_or(0);
        let limit: usize = asked.query("maxResults").parse().unwrap();
        let items: Vec<Value> =
            names.iter().skip(from).take(limit).map(|name| object(name)).collect();
        let mut page = json!({ "items": items });
        if from + limit < names.len() {
            page["nextPageToken"] = (from + limit).to_string().into();
        }
        reply(200, &[], page.to_string())
    });
    let source = source(addr.await);
    let (found, unusable) = all(&source, 2).await;
    // A part of an address that is only dots is resolved on the way.
    let usable: Vec<&str> = names.iter().copied().filter(|name| *name != "..").collect();
    let listed: Vec<&str> =
        found.iter().map(|found| found.props["object"].as_str().unwrap()).collect();
    assert_eq!(listed, usable);
    assert_eq!(unusable.len(), 1);
    for listed in found {
        let found = source.stat(&listed.uri).await.unwrap().expect("it is there");
        assert_eq!(found, listed);
        assert_eq!(
            (found.generation.as_deref(), found.etag.as_deref()),
            (Some("17"), Some("CBE="))
        );
        let name = found.props["object"].as_str().unwrap();
        assert_eq!(source.fetch(&found, 99).await.unwrap(), name);
        let newer = Found { generation: Some("18".to_owned()), ..found.clone() };
        assert_eq!(source.fetch(&newer, 99).await.unwrap_err().class, FaultClass::NotFound);
    }
    assert_eq!(source.stat("gs://docs/none").await, Ok(None));
}

#[tokio::test]
async fn an_answer_that_is_none_is_a_fault() {
    for body in ["", "[]", "{\"items\":7}", "{\"items\":[{}]}", "<xml/>"] {
        let source = source(serve(move |_| reply(200, &[], body)).await);
        let listed = source.list(None, None, 9).await;
        if body == "[]" {
            assert_eq!(listed.unwrap(), Page::default());
        } else {
            assert_eq!(listed.unwrap_err().class, FaultClass::Network, "{body}");
        }
    }
}

#[test]
fn credentials_are_looked_for_in_their_order() {
    use crate::config::Secret;
    use crate::connectors::source::google::Account;
    let cloud = |name: &str, value: &str| (name.to_owned(), Secret::from(value.to_owned()));
    let account = |settings: Value, clouds: Vec<(String, Secret)>| {
        let Value::Object(settings) = settings else { panic!("an object") };
        let connector = Connector::unsaved(settings);
        let settings = Settings { connector: &connector, globs: Globs::default() };
        let parts = SourceParts(Arc::new(Parts { clouds, ..Parts::of_test() }));
        match Account::of_storage(&settings, &parts) {
            Ok(Account::Text(text)) => format!("text {}", text.as_str()),
            Ok(Account::File(path)) => format!("file {}", path.display()),
            Ok(Account::Machine) => "machine".to_owned(),
            Err(fault) => fault.class.as_str().to_owned(),
        }
    };
    let env = || {
        vec![
            cloud("google_credentials_b64", "Yg=="),
            cloud("google_credentials_json", "j"),
            cloud("google_application_credentials", "/f"),
        ]
    };
    let own = json!({"credentials_json": "c", "credentials_path": "/p"});
    assert_eq!(account(own, env()), "text c");
    assert_eq!(account(json!({"credentials_path": "/p"}), env()), "file /p");
    assert_eq!(account(json!({}), env()), "text b");
    assert_eq!(account(json!({}), env().split_off(1)), "text j");
    assert_eq!(account(json!({}), env().split_off(2)), "file /f");
    assert_eq!(account(json!({}), vec![]), "machine");
    assert_eq!(account(json!({}), vec![cloud("google_credentials_b64", "?")]), "settings");
}
