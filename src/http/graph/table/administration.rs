//! Routes for administrators, and for who looks after the program.

use super::{JSON_ANY, TENANT, admin, data, open, operate, optional};
use crate::auth::Access;
use crate::http::error::ErrorKind;
use crate::http::rate_limit::Group;
use crate::http::routes::{Answer, Parameter, Route, Verb};

pub(super) const ROUTES: &[Route] = &[
    Route {
        body: Some("RefreshRequest"),
        group: Some(Group::AdminRefresh),
        answer: Answer::Json("RefreshAnswer"),
        ..admin(Verb::Post, "/admin/refresh", "Embed nodes again: some, or all that are due")
    },
    Route {
        query: &[
            optional(
                "types",
                "string",
                "Of drift_spike, trigger_storm and scheduler_lag, separated by commas; default all",
            ),
            optional("lookback_hours", "integer", "Hours looked at, 1 to 8784; default 24"),
            optional("drift_spike_threshold", "number", "Times the mean drift; default 2"),
            optional("trigger_storm_threshold", "integer", "Events above which; default 50"),
            optional("scheduler_lag_multiplier", "number", "Times the interval; default 2"),
            TENANT,
        ],
        ..data(
            Verb::Get,
            "/admin/anomalies",
            "Find nodes that behave oddly",
            "Administration",
            Access::Read,
            "Anomalies",
        )
    },
    Route {
        query: &[optional(
            "tenant_id",
            "string",
            "Tenant while tokens are off; all tenants without it",
        )],
        answer: Answer::Json("EmbeddingStatus"),
        ..admin(Verb::Get, "/admin/embedding/status", "Count nodes by the state of their embedding")
    },
    Route {
        body: Some("RequeueRequest"),
        answer: Answer::Json("RequeueAnswer"),
        ..admin(Verb::Post, "/admin/embedding/requeue", "Embed nodes again")
    },
    Route {
        query: &[optional(
            "tenant_id",
            "string",
            "Tenant while tokens are off; all tenants without it",
        )],
        answer: Answer::Json("ExtractionStatus"),
        ..admin(
            Verb::Get,
            "/admin/extraction/status",
            "Count nodes by the state of their extraction, which another program does",
        )
    },
    Route {
        body: Some("ExtractionRequeue"),
        also: &[ErrorKind::Unavailable],
        ..admin(
            Verb::Post,
            "/admin/extraction/requeue",
            "Extract props again; always refused, since nothing is extracted here",
        )
    },
    Route {
        access: Some(Access::Operate),
        body: Some("BackupRequest"),
        answer: Answer::Json("BackupCreated"),
        also: &[ErrorKind::Conflict],
        ..admin(Verb::Post, "/admin/backup", "Back up everything")
    },
    Route {
        access: Some(Access::Operate),
        answer: Answer::Json("BackupList"),
        ..admin(Verb::Get, "/admin/backups", "List the backups")
    },
    Route {
        access: Some(Access::Operate),
        answer: Answer::Json("BackupTrial"),
        ..admin(Verb::Post, "/admin/backups/{name}/verify", "Try a backup out")
    },
    Route {
        answer: Answer::Json("IndexesAnswer"),
        ..admin(Verb::Get, "/admin/indexes", "List the vector indexes")
    },
    Route {
        body: Some("IndexesRequest"),
        answer: Answer::Json("IndexesAnswer"),
        ..admin(Verb::Post, "/admin/indexes", "List, ensure, rebuild or drop vector indexes")
    },
    Route {
        answer: Answer::Json("MigrateAnswer"),
        ..admin(Verb::Post, "/admin/migrate", "Make sure that the store and its indexes are there")
    },
    Route {
        answer: Answer::Json("DbStatus"),
        ..admin(Verb::Get, "/admin/db_status", "Describe the store as a database")
    },
    operate(Verb::Get, "/admin/model", "Show the embedding model and its change", "ModelStatus"),
    Route {
        body: Some("ModelChangeRequest"),
        answer: Answer::Begun("ModelStatus"),
        also: &[ErrorKind::NotFound, ErrorKind::Conflict, ErrorKind::Unavailable],
        ..operate(Verb::Post, "/admin/model/change", "Begin to change it", "ModelStatus")
    },
    Route {
        also: &[ErrorKind::NotFound, ErrorKind::Conflict],
        ..operate(
            Verb::Delete,
            "/admin/model/change",
            "Remove the one that does not serve",
            "ModelStatus",
        )
    },
    Route {
        body: Some("ModelCompareRequest"),
        also: &[ErrorKind::NotFound, ErrorKind::Conflict, ErrorKind::Unavailable],
        ..operate(Verb::Post, "/admin/model/compare", "Search by both models", "ModelComparison")
    },
    Route {
        body: Some("ModelSwitchRequest"),
        also: &[ErrorKind::NotFound, ErrorKind::Conflict, ErrorKind::Unavailable],
        ..operate(Verb::Post, "/admin/model/switch", "Go over to the new one", "ModelStatus")
    },
    Route {
        body: Some("ModelSwitchRequest"),
        also: &[ErrorKind::NotFound, ErrorKind::Conflict, ErrorKind::Unavailable],
        ..operate(Verb::Post, "/admin/model/roll-back", "Go back to the old one", "ModelStatus")
    },
    Route {
        query: &[
            optional("tenant_id", "string", "Only acts about the data of this tenant"),
            optional("actor", "string", "Only acts by this name"),
            optional("action", "string", "Only acts whose names begin so, such as queue."),
            optional("within", "string", "Only acts within this time, such as 7d"),
            optional("before", "string", "The next of an earlier answer"),
            optional("limit", "integer", "1 to 1000; default 100"),
        ],
        answer: Answer::Json("AuditList"),
        ..admin(Verb::Get, "/_admin/audit", "Say what administrators did, the newest first")
    },
    operate(Verb::Get, "/_admin/workers", "Count the workers on changes", "WorkerList"),
    Route {
        body: Some("ScaleRequest"),
        also: &[ErrorKind::NotFound, ErrorKind::Conflict],
        ..operate(
            Verb::Post,
            "/_admin/workers/{queue}/scale",
            "Change how many workers run, until the server ends",
            "WorkersScaled",
        )
    },
    Route {
        also: &[ErrorKind::NotFound, ErrorKind::Conflict],
        ..operate(
            Verb::Post,
            "/_admin/workers/{queue}/restart",
            "Let workers finish what they hold, then begin anew",
            "WorkersBegun",
        )
    },
    admin(Verb::Get, "/debug/dbinfo", "Name the store"),
    admin(Verb::Get, "/debug/search_sanity", "Count what can be found"),
    Route {
        query: &[
            Parameter {
                name: "query",
                kind: "string",
                required: true,
                about: "What to search for",
            },
            optional("use_hybrid", "boolean", "Also by words; default false"),
            optional("top_k", "integer", "1 to 20; default 5"),
        ],
        ..admin(Verb::Get, "/debug/search_explain", "Explain a search")
    },
    Route {
        body: Some("SearchExplainRequest"),
        ..admin(Verb::Post, "/debug/search_explain", "Explain a search")
    },
    admin(Verb::Get, "/debug/embed_info", "Describe the embeddings"),
    admin(Verb::Get, "/_admin/embed_info", "Describe the embeddings"),
    Route {
        query: &[TENANT],
        answer: Answer::Json("ClassCoverage"),
        ..admin(Verb::Get, "/_admin/embed_class_coverage", "Count what is embedded of each class")
    },
    Route {
        query: &[optional("buckets", "integer", "1 to 1000; default 10"), TENANT],
        answer: Answer::Json("DriftHistogram"),
        ..admin(Verb::Get, "/_admin/drift_histogram", "Count nodes by how far they drifted")
    },
    Route {
        body: Some("UpliftRequest"),
        answer: Answer::Json("UpliftAnswer"),
        ..admin(
            Verb::Post,
            "/_admin/metrics/retrieval_uplift",
            "Publish what an evaluation measured",
        )
    },
    Route {
        query: &[Parameter { name: "q", kind: "string", required: true, about: "A question" }],
        ..open("/debug/intent", "Show how a question is understood", JSON_ANY)
    },
    Route {
        query: &[TENANT],
        answer: Answer::Json("MetricsSummary"),
        ..admin(Verb::Get, "/_admin/metrics_summary", "Say when the scheduler ran")
    },
    Route {
        access: Some(Access::Any),
        ..admin(Verb::Get, "/_admin/security/limits", "Show the limits in force")
    },
    Route {
        access: Some(Access::Operate),
        answer: Answer::Text("application/x-ndjson"),
        ..admin(Verb::Post, "/_admin/db/check", "Compare all rows with their checksums")
    },
    Route {
        access: Some(Access::Operate),
        ..admin(Verb::Get, "/_admin/db/stats", "Show what each table holds")
    },
    operate(Verb::Get, "/_admin/config", "Show the settings that were given", "Settings"),
    Route {
        query: &[
            optional("tenant_id", "string", "The tenant; default all that the token is for"),
            optional("hours", "integer", "How far back; 1 to 8784, default 24"),
        ],
        answer: Answer::Json("IngestStats"),
        ..admin(Verb::Get, "/_admin/stats/ingest", "Count the nodes that came, by the hour")
    },
    Route {
        query: &[
            optional("tenant_id", "string", "The tenant; default all that the token is for"),
            optional("older_than", "string", "How long deleted, such as 30d"),
        ],
        answer: Answer::Json("DeletedStats"),
        ..admin(Verb::Get, "/_admin/stats/deleted", "Count the deleted nodes that are kept")
    },
    Route {
        access: Some(Access::Operate),
        ..admin(Verb::Get, "/_admin/db/activity", "Show readers, writer and commits")
    },
];
