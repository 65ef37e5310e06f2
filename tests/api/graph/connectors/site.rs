//! A folder that connectors look at.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{at, register};
use crate::common::{Options, Request, Server};

/// A folder of files with a server that may read it, and does not embed: that takes long here.
pub(super) struct Site {
    pub(super) server: Server,
    pub(super) folder: PathBuf,
    _dir: TempDir,
}

impl Site {
    pub(super) fn new(env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().canonicalize().unwrap().join("docs");
        fs::create_dir(&folder).unwrap();
        let base = dir.path().canonicalize().unwrap();
        let mut options = Options::new(&[
            ("ACTIVEKG_FILE_BASEDIRS", base.to_str().unwrap()),
            ("CONNECTOR_WORKER_POLL_INTERVAL", "0.1"),
            ("RUN_EMBEDDING_WORKER", "false"),
            ("RUN_SCHEDULER", "false"),
        ]);
        for (name, value) in env {
            options = options.set(name, value);
        }
        Self { server: options.start(), folder, _dir: dir }
    }

    pub(super) fn registered(tenant: &str) -> Self {
        let site = Self::new(&[]);
        site.register(tenant);
        site
    }

    pub(super) fn register(&self, tenant: &str) {
        register(&self.server, "local", tenant, &json!({ "path": self.folder }));
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    pub(super) fn uri(&self, name: &str) -> String {
        format!("file://{}", self.folder.join(name).display())
    }

    #[track_caller]
    pub(super) fn ingest(&self, body: &Value) -> Value {
        self.server.post(&at("local/ingest"), body).expect(200)
    }

    /// Takes in everything of a tenant, and waits until it is done.
    #[track_caller]
    pub(super) fn take(&self, tenant: &str) -> Value {
        let answer = self.ingest(&json!({ "tenant_id": tenant, "dry_run": false }));
        self.settled(tenant);
        answer
    }

    /// Works on these files, whatever is known of them.
    #[track_caller]
    pub(super) fn touch(&self, tenant: &str, names: &[&str]) {
        let uris: Vec<String> = names.iter().map(|name| self.uri(name)).collect();
        self.ingest(&json!({ "tenant_id": tenant, "dry_run": false, "uris": uris }));
        self.settled(tenant);
    }

    #[track_caller]
    pub(super) fn settled(&self, tenant: &str) -> Value {
        let status = Request::get(at(&format!("local/queue-status?tenant_id={tenant}")));
        let done = |status: &Value| status["pending"] == status["held"];
        self.server.until(&status, |answer| done(&answer.json())).expect(200)
    }

    /// Which documents have chunks that a search for words finds.
    #[track_caller]
    pub(super) fn found(&self, words: &str) -> Vec<String> {
        self.found_by("default", "bm25", words)
    }

    /// Which documents of a tenant have chunks that a search of this mode finds.
    #[track_caller]
    pub(super) fn found_by(&self, tenant: &str, mode: &str, query: &str) -> Vec<String> {
        let search = json!({ "query": query, "mode": mode, "tenant_id": tenant });
        let found = self.server.post("/search", &search).expect(200);
        let results = found["results"].as_array().unwrap().iter();
        // The parents are found by their titles, which are file names.
        let title = |hit: &Value| hit["props"]["parent_title"].as_str().map(str::to_owned);
        let mut titles: Vec<String> = results.filter_map(title).collect();
        titles.sort();
        titles
    }

    /// Waits until a search finds these.
    #[track_caller]
    pub(super) fn finds(&self, words: &str, names: &[&str]) {
        let search = json!({ "query": words, "mode": "bm25", "tenant_id": "default" });
        let search = Request::post("/search", &search);
        self.server.until(&search, |_| self.found(words) == names);
    }

    /// The parent node of a file.
    #[track_caller]
    pub(super) fn document(&self, tenant: &str, name: &str) -> Value {
        let path = self.folder.join(name);
        let external = format!("local:{tenant}:{}", path.display());
        let query = format!("/nodes/by-external-id?tenant_id={tenant}&external_id={external}");
        self.server.get(&query).expect(200)
    }

    /// Stops or goes on with the work on files.
    #[track_caller]
    pub(super) fn switch(&self, way: &str) {
        let path = format!("/admin/queues/connector:local/{way}");
        self.server.post(&path, &json!({})).expect(200);
    }
}

pub(super) fn counted(server: &Server, name: &str) -> f64 {
    let text = server.get("/prometheus");
    let line = text.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {}", text.text())).parse().unwrap()
}
