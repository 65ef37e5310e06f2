use super::*;

#[test]
fn ids_hold_nothing_that_leads_elsewhere() {
    assert!(is_id("1AbC-d_9") && of_uri("drive://1AbC").is_ok());
    for bad in ["", "a b", "a'b", "../x", "a/b", "a?b"] {
        assert!(!is_id(bad) && of_uri(&format!("drive://{bad}")).is_err(), "{bad}");
    }
}

#[test]
fn files_of_google_are_exported_and_others_read() {
    let parsed = |kind: &str| {
        let file = serde_json::json!({"id": "1", "name": "n", "mimeType": kind, "size": "5",
            "modifiedTime": "2026-01-02T03:04:05.000Z", "version": "7"});
        File::parse(&file).unwrap().found(&BTreeMap::new())
    };
    let doc = parsed("application/vnd.google-apps.document").unwrap();
    assert_eq!((doc.content_type.as_deref(), doc.size), (Some("text/html"), None));
    assert_eq!(doc.etag.as_deref(), Some("2026-01-02T03:04:05.000Z:7"));
    let plain = parsed("text/plain").unwrap();
    assert_eq!((plain.content_type.as_deref(), plain.size), (Some("text/plain"), Some(5)));
    assert!(parsed("application/vnd.google-apps.form").is_err());
    let kind = "application/vnd.google-apps.document";
    let own = BTreeMap::from([(kind.to_owned(), "text/plain".to_owned())]);
    assert_eq!(exported(kind, &own).as_deref(), Some("text/plain"));
}
