//! The routes of the graph surface.

use crate::auth::Access;
use crate::http::dialect::Dialect;
use crate::http::error::ErrorKind;
use crate::http::rate_limit::Group;
use crate::http::routes::{Answer, Parameter, Route, Verb};

/// How errors of a path are worded. Paths that other products' clients know speak as those do.
pub fn dialect(path: &str) -> Dialect {
    match path.trim_end_matches('/') {
        "/mcp" => Dialect::JsonRpc,
        path if path.starts_with("/v1/") => Dialect::OpenAi,
        path if path.starts_with("/_admin/connectors") => Dialect::Administration,
        path if path.starts_with("/_webhooks/") => Dialect::Webhook,
        _ => Dialect::Detail,
    }
}

const JSON_ANY: Answer = Answer::Json("Object");
const HTML: Answer = Answer::Text("text/html");

const fn optional(name: &'static str, kind: &'static str, about: &'static str) -> Parameter {
    Parameter { name, kind, required: false, about }
}

const fn required(name: &'static str, kind: &'static str, about: &'static str) -> Parameter {
    Parameter { name, kind, required: true, about }
}

const TENANT: Parameter =
    optional("tenant_id", "string", "Tenant while tokens are off; ignored otherwise");
const NODE: Parameter = required("id", "string", "The node");
const RELATIONS: Parameter =
    optional("rel", "string", "Only along edges of these relations, separated by commas");
const DIRECTION: Parameter =
    optional("direction", "string", "How edges are followed: out, in or both; default both");
const CLASSES: Parameter =
    optional("classes", "string", "Only nodes of one of these classes, separated by commas");

/// A route that no token is needed for.
const fn open(path: &'static str, summary: &'static str, answer: Answer) -> Route {
    Route {
        method: Verb::Get,
        path,
        summary,
        tag: "Service",
        access: None,
        group: None,
        query: &[],
        body: None,
        answer,
        also: &[],
    }
}

/// A route for messages of a source, which show themselves who sent them.
const fn webhook(
    path: &'static str,
    summary: &'static str,
    group: Group,
    body: &'static str,
) -> Route {
    Route {
        method: Verb::Post,
        tag: "Webhooks",
        group: Some(group),
        body: Some(body),
        also: &[ErrorKind::Forbidden, ErrorKind::Unavailable],
        ..open(path, summary, Answer::Json("WebhookAnswer"))
    }
}

/// A route that says whether messages of a source are taken.
const fn webhook_health(path: &'static str) -> Route {
    let answer = Answer::Json("WebhookHealth");
    Route { tag: "Webhooks", ..open(path, "Say whether messages are taken", answer) }
}

/// A route over a tenant's data.
const fn data(
    method: Verb,
    path: &'static str,
    summary: &'static str,
    tag: &'static str,
    access: Access,
    answer: &'static str,
) -> Route {
    Route {
        method,
        path,
        summary,
        tag,
        access: Some(access),
        group: Some(Group::Default),
        query: &[],
        body: None,
        answer: Answer::Json(answer),
        also: &[],
    }
}

/// A route for the administrator.
const fn admin(method: Verb, path: &'static str, summary: &'static str) -> Route {
    Route {
        method,
        path,
        summary,
        tag: "Administration",
        access: Some(Access::Admin),
        group: None,
        query: &[],
        body: None,
        answer: JSON_ANY,
        also: &[],
    }
}

/// A route for whoever answers for the data of all tenants.
const fn operate(
    method: Verb,
    path: &'static str,
    summary: &'static str,
    answer: &'static str,
) -> Route {
    Route {
        access: Some(Access::Operate),
        answer: Answer::Json(answer),
        ..admin(method, path, summary)
    }
}

/// A route for the administrator of a tenant's connectors.
const fn connector(
    method: Verb,
    path: &'static str,
    summary: &'static str,
    answer: &'static str,
) -> Route {
    Route { tag: "Connectors", answer: Answer::Json(answer), ..admin(method, path, summary) }
}

/// The tenant of one connector.
const OWNER: Parameter = required(
    "tenant_id",
    "string",
    "The tenant; another than the token's needs the scope super_admin",
);

/// The tenant of a connector, where it need not be named.
const NAMED: Parameter = optional(
    "tenant_id",
    "string",
    "The tenant; default the token's, another needs the scope super_admin",
);

/// The tenant of routes for whoever answers for all of them.
const ANY_TENANT: Parameter = optional("tenant_id", "string", "Only this tenant; default all");
const JOB: Parameter = optional("id", "string", "Only the item of this id");
const REASON: Parameter = optional(
    "reason",
    "string",
    "Only items given up for this reason: permanent, exhausted, parse, unsupported, crash_loop, unknown",
);
const OLDER_THAN: Parameter =
    optional("older_than", "string", "Only items older than this: 30m, 12h, 7d");

/// All of them. The order is that of the API description.
pub static ROUTES: &[Route] = &[
    Route {
        body: Some("SearchRequest"),
        group: Some(Group::Search),
        ..data(
            Verb::Post,
            "/search",
            "Search by meaning and by words",
            "Search",
            Access::Read,
            "SearchAnswer",
        )
    },
    Route {
        body: Some("AskRequest"),
        group: Some(Group::Ask),
        also: &[ErrorKind::Unavailable],
        ..data(
            Verb::Post,
            "/ask",
            "Answer a question with citations",
            "Search",
            Access::Ask,
            "AskAnswer",
        )
    },
    Route {
        body: Some("AskRequest"),
        group: Some(Group::AskStream),
        answer: Answer::Text("text/event-stream"),
        also: &[ErrorKind::Unavailable],
        ..data(
            Verb::Post,
            "/ask/stream",
            "Answer a question, piece by piece",
            "Search",
            Access::Ask,
            "",
        )
    },
    Route {
        body: Some("NodeCreate"),
        also: &[ErrorKind::Conflict],
        ..data(Verb::Post, "/nodes", "Create a node", "Nodes", Access::Write, "NodeCreated")
    },
    Route {
        query: &[
            optional("limit", "integer", "Nodes on a page, at most 1000; default 100"),
            optional("offset", "integer", "Nodes before the page; default 0"),
            optional("page", "integer", "Page from 1, instead of offset"),
            optional("has_embedding", "boolean", "Only nodes with, or only nodes without a vector"),
            optional(
                "classes",
                "string",
                "Only nodes of one of these classes, separated by commas",
            ),
            optional("include", "string", "`props` to have the properties too"),
            TENANT,
        ],
        ..data(Verb::Get, "/nodes", "List nodes", "Nodes", Access::Read, "NodeList")
    },
    Route {
        body: Some("NodeBatch"),
        ..data(
            Verb::Post,
            "/nodes/batch",
            "Create many nodes",
            "Nodes",
            Access::Write,
            "BatchAnswer",
        )
    },
    Route {
        query: &[
            Parameter {
                name: "external_id",
                kind: "string",
                required: true,
                about: "The caller's name for the node",
            },
            TENANT,
        ],
        also: &[ErrorKind::NotFound],
        ..data(
            Verb::Get,
            "/nodes/by-external-id",
            "Find a node by the caller's name for it",
            "Nodes",
            Access::Read,
            "ExternalNode",
        )
    },
    Route {
        query: &[TENANT],
        ..data(Verb::Get, "/nodes/{id}", "Show a node", "Nodes", Access::Read, "NodeView")
    },
    Route {
        query: &[TENANT],
        body: Some("NodePut"),
        also: &[ErrorKind::Conflict],
        ..data(
            Verb::Put,
            "/nodes/{id}",
            "Replace members of a node",
            "Nodes",
            Access::Write,
            "NodeView",
        )
    },
    Route {
        query: &[optional("hard", "boolean", "Leave nothing of it; default false"), TENANT],
        ..data(Verb::Delete, "/nodes/{id}", "Delete a node", "Nodes", Access::Write, "NodeDeleted")
    },
    Route {
        query: &[TENANT],
        ..data(
            Verb::Post,
            "/nodes/{id}/refresh",
            "Embed a node again",
            "Nodes",
            Access::Write,
            "NodeRefreshed",
        )
    },
    Route {
        query: &[optional("limit", "integer", "1 to 100; default 10"), TENANT],
        also: &[ErrorKind::BadRequest],
        ..data(
            Verb::Get,
            "/nodes/{id}/versions",
            "List the embeddings of a node",
            "Nodes",
            Access::Read,
            "VersionList",
        )
    },
    Route {
        body: Some("UploadForm"),
        ..data(
            Verb::Post,
            "/upload",
            "Make documents of files",
            "Nodes",
            Access::Write,
            "UploadAnswer",
        )
    },
    Route {
        body: Some("EdgeCreate"),
        also: &[ErrorKind::NotFound, ErrorKind::Conflict],
        ..data(Verb::Post, "/edges", "Connect two nodes", "Edges", Access::Write, "EdgeCreated")
    },
    Route {
        query: &[optional("max_depth", "integer", "Steps to go, 1 to 50; default 5"), TENANT],
        ..data(
            Verb::Get,
            "/lineage/{id}",
            "Show what a node was derived from",
            "Edges",
            Access::Read,
            "Lineage",
        )
    },
    Route {
        query: &[
            optional("node_id", "string", "Only events of this node"),
            optional("event_type", "string", "Only events of this type"),
            optional("limit", "integer", "At most 1000; default 100"),
            TENANT,
        ],
        ..data(
            Verb::Get,
            "/events",
            "List events, newest first",
            "Edges",
            Access::Read,
            "EventList",
        )
    },
    Route {
        body: Some("PatternCreate"),
        also: &[ErrorKind::Conflict],
        ..data(
            Verb::Post,
            "/triggers",
            "Register a pattern that nodes listen for",
            "Triggers",
            Access::Write,
            "PatternRegistered",
        )
    },
    Route {
        query: &[TENANT],
        ..data(Verb::Get, "/triggers", "List the patterns", "Triggers", Access::Read, "PatternList")
    },
    Route {
        query: &[TENANT],
        ..data(
            Verb::Delete,
            "/triggers/{name}",
            "Remove a pattern",
            "Triggers",
            Access::Write,
            "PatternDeleted",
        )
    },
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
        query: &[
            NODE,
            RELATIONS,
            DIRECTION,
            CLASSES,
            optional("limit", "integer", "Edges, at most 1000; default 100"),
            TENANT,
        ],
        also: &[ErrorKind::NotFound],
        ..data(
            Verb::Get,
            "/graph/neighbors",
            "Show the edges of a node and what is at their other ends",
            "Graph",
            Access::Read,
            "NeighborList",
        )
    },
    Route {
        query: &[
            required("from", "string", "The node it starts at"),
            required("to", "string", "The node it ends at"),
            RELATIONS,
            DIRECTION,
            optional("max_depth", "integer", "Edges, 1 to 10; default 6"),
            TENANT,
        ],
        also: &[ErrorKind::NotFound],
        ..data(
            Verb::Get,
            "/graph/path",
            "Find a shortest path between two nodes",
            "Graph",
            Access::Read,
            "GraphPath",
        )
    },
    Route {
        query: &[
            NODE,
            optional("depth", "integer", "Edges from the node, 1 to 10; default 2"),
            RELATIONS,
            DIRECTION,
            CLASSES,
            optional("limit", "integer", "Nodes, at most 1000; default 100"),
            TENANT,
        ],
        also: &[ErrorKind::NotFound],
        ..data(
            Verb::Get,
            "/graph/subgraph",
            "Show the part of the graph around a node",
            "Graph",
            Access::Read,
            "Subgraph",
        )
    },
    Route {
        query: &[TENANT],
        body: Some("JsonRpcMessage"),
        ..data(
            Verb::Post,
            "/mcp",
            "Use the graph as tools, by the Model Context Protocol",
            "Agents",
            Access::Any,
            "Object",
        )
    },
    data(
        Verb::Get,
        "/v1/models",
        "List the models, as OpenAI's API does",
        "OpenAI",
        Access::Read,
        "OpenAiModels",
    ),
    Route {
        body: Some("EmbeddingsRequest"),
        ..data(
            Verb::Post,
            "/v1/embeddings",
            "Embed texts, as OpenAI's API does",
            "OpenAI",
            Access::Read,
            "EmbeddingsAnswer",
        )
    },
    Route {
        body: Some("ChatRequest"),
        group: Some(Group::Ask),
        ..data(
            Verb::Post,
            "/v1/chat/completions",
            "Answer the last message with citations, as OpenAI's API does",
            "OpenAI",
            Access::Ask,
            "ChatAnswer",
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
    operate(Verb::Get, "/admin/queues", "List the queues", "QueueList"),
    Route {
        query: &[ANY_TENANT],
        ..operate(Verb::Get, "/admin/queues/{queue}", "Show a queue, tenant by tenant", "Queue")
    },
    Route {
        query: &[
            ANY_TENANT,
            optional("from", "string", "`oldest` or `newest` first; default oldest"),
            optional("limit", "integer", "At most 1000; default 100"),
        ],
        ..operate(Verb::Get, "/admin/queues/{queue}/items", "Look at what waits", "QueueItems")
    },
    Route {
        query: &[
            ANY_TENANT,
            OLDER_THAN,
            optional("keep", "integer", "But not the newest so many of each tenant"),
            optional("all", "boolean", "Everything that waits; goes with none of the others"),
        ],
        ..operate(
            Verb::Delete,
            "/admin/queues/{queue}/items",
            "Throw away what waits",
            "QueuePurged",
        )
    },
    operate(Verb::Post, "/admin/queues/{queue}/pause", "Start no more items", "QueuePaused"),
    operate(Verb::Post, "/admin/queues/{queue}/resume", "Start items again", "QueuePaused"),
    Route {
        query: &[
            ANY_TENANT,
            JOB,
            REASON,
            optional("from", "string", "`oldest` or `newest` first; default newest"),
            optional("limit", "integer", "At most 1000; default 100"),
        ],
        ..operate(Verb::Get, "/admin/queues/{queue}/dead", "List what was given up", "QueueItems")
    },
    Route {
        query: &[
            ANY_TENANT,
            JOB,
            REASON,
            OLDER_THAN,
            optional("keep", "integer", "But not the newest so many of these; default 0"),
        ],
        ..operate(
            Verb::Delete,
            "/admin/queues/{queue}/dead",
            "Forget what was given up",
            "QueuePurged",
        )
    },
    Route {
        body: Some("ReplayRequest"),
        ..operate(
            Verb::Post,
            "/admin/queues/{queue}/dead/replay",
            "Try again what was given up",
            "QueueReplayed",
        )
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
    connector(Verb::Get, "/_admin/connectors/", "List the connectors", "ConnectorList"),
    Route {
        access: Some(Access::Any),
        ..connector(
            Verb::Get,
            "/_admin/connectors/cache/health",
            "Say whether changes of connectors get through",
            "CacheHealth",
        )
    },
    connector(
        Verb::Post,
        "/_admin/connectors/cache/flush",
        "Forget opened connectors",
        "CacheFlushed",
    ),
    Route {
        query: &[
            optional("tenant_id", "string", "Count and list only those of this tenant"),
            optional("provider", "string", "List only those of this provider"),
            optional("not_version", "integer", "List only those with another version"),
            optional("updated_since", "string", "List only those that changed then or later"),
        ],
        ..connector(
            Verb::Get,
            "/_admin/connectors/keys",
            "Show which keys seal the secrets of connectors",
            "KeyStatus",
        )
    },
    Route {
        body: Some("RotateRequest"),
        also: &[ErrorKind::Conflict],
        ..connector(
            Verb::Post,
            "/_admin/connectors/rotate_keys",
            "Seal the secrets of connectors again with the active key",
            "Rotation",
        )
    },
    Route {
        body: Some("PurgeRequest"),
        ..connector(
            Verb::Post,
            "/_admin/connectors/purge_deleted",
            "Remove for good what was deleted and whose grace is over",
            "PurgeAnswer",
        )
    },
    Route {
        query: &[
            optional("tenant_id", "string", "The tenant; default the token's"),
            optional("after", "integer", "Only receipts with larger numbers; default 0"),
            optional("limit", "integer", "Receipts at most; 1 to 100, default 100"),
        ],
        ..connector(
            Verb::Get,
            "/_admin/connectors/purge_receipts",
            "Show what purges removed",
            "ReceiptList",
        )
    },
    Route {
        query: &[OWNER],
        ..connector(
            Verb::Get,
            "/_admin/connectors/{provider}",
            "Show a connector without its secrets",
            "ConnectorView",
        )
    },
    Route {
        body: Some("ConnectorRegistration"),
        also: &[ErrorKind::UnsupportedMediaType],
        ..connector(
            Verb::Post,
            "/_admin/connectors/{provider}/register",
            "Register a connector, in place of the one there may be",
            "ConnectorChanged",
        )
    },
    Route {
        body: Some("ConnectorChange"),
        also: &[ErrorKind::Conflict, ErrorKind::UnsupportedMediaType],
        ..connector(
            Verb::Patch,
            "/_admin/connectors/{provider}/config",
            "Change settings of a connector",
            "ConnectorChanged",
        )
    },
    Route {
        query: &[OWNER],
        ..connector(
            Verb::Delete,
            "/_admin/connectors/{provider}/config",
            "Delete a connector; its documents stay",
            "ConnectorChanged",
        )
    },
    Route {
        body: Some("ConnectorTrial"),
        also: &[ErrorKind::UnsupportedMediaType],
        ..connector(
            Verb::Post,
            "/_admin/connectors/{provider}/test",
            "Try out whether a connector can read its source",
            "ConnectorTried",
        )
    },
    Route {
        body: Some("ConnectorSwitch"),
        ..connector(
            Verb::Post,
            "/_admin/connectors/{provider}/enable",
            "Let a connector run",
            "ConnectorChanged",
        )
    },
    Route {
        body: Some("ConnectorSwitch"),
        ..connector(
            Verb::Post,
            "/_admin/connectors/{provider}/disable",
            "Let a connector run no more",
            "ConnectorChanged",
        )
    },
    webhook("/_webhooks/s3", "Take a message of SNS about S3", Group::WebhookS3, "SnsMessage"),
    webhook_health("/_webhooks/s3/health"),
    Route {
        query: &[
            optional("token", "string", "The secret, for push endpoints that cannot send headers"),
            optional("topic", "string", "The topic, projects/<project>/topics/<topic>"),
        ],
        ..webhook(
            "/_webhooks/gcs",
            "Take a message of Pub/Sub about Google Cloud Storage",
            Group::WebhookGcs,
            "PubSubPush",
        )
    },
    webhook_health("/_webhooks/gcs/health"),
    Route {
        access: Some(Access::Operate),
        body: Some("IngestRequest"),
        also: &[ErrorKind::BadRequest, ErrorKind::UnsupportedMediaType, ErrorKind::BadGateway],
        ..connector(
            Verb::Post,
            "/_admin/connectors/{provider}/ingest",
            "Queue what a connector's source holds; a dry run unless told otherwise",
            "Ingested",
        )
    },
    Route {
        body: Some("BackfillRequest"),
        also: &[ErrorKind::BadRequest, ErrorKind::UnsupportedMediaType, ErrorKind::BadGateway],
        ..connector(
            Verb::Post,
            "/_admin/connectors/{provider}/backfill",
            "Queue what a connector's source has held for long",
            "Backfilled",
        )
    },
    Route {
        query: &[OWNER],
        ..connector(
            Verb::Get,
            "/_admin/connectors/{provider}/queue-status",
            "Count the changes that wait",
            "ConnectorQueueStatus",
        )
    },
    Route {
        access: Some(Access::Operate),
        query: &[
            NAMED,
            optional("from", "string", "`oldest` or `newest` first; default oldest"),
            optional("limit", "integer", "At most 1000; default 100"),
        ],
        also: &[ErrorKind::BadRequest],
        ..connector(
            Verb::Get,
            "/_admin/connectors/{provider}/queue",
            "Look at the changes that wait",
            "ConnectorQueueItems",
        )
    },
    Route {
        access: Some(Access::Operate),
        query: &[
            NAMED,
            OLDER_THAN,
            optional("keep", "integer", "But not the newest so many"),
            optional("all", "boolean", "Everything that waits; goes with none of the others"),
        ],
        also: &[ErrorKind::BadRequest],
        ..connector(
            Verb::Delete,
            "/_admin/connectors/{provider}/queue",
            "Throw away changes that wait",
            "QueuePurged",
        )
    },
    Route {
        query: &[OWNER],
        ..connector(
            Verb::Get,
            "/_admin/connectors/{provider}/cursor",
            "Show how far the polling of a source has come",
            "ConnectorCursor",
        )
    },
    Route {
        access: Some(Access::Operate),
        query: &[
            REASON,
            optional("from", "string", "`oldest` or `newest` first; default newest"),
            optional("limit", "integer", "At most 1000; default 100"),
        ],
        also: &[ErrorKind::BadRequest],
        ..connector(
            Verb::Get,
            "/_admin/connectors/dlq/inspect/{provider}/{tenant}",
            "List the changes that were given up",
            "ConnectorLetters",
        )
    },
    Route {
        access: Some(Access::Operate),
        body: Some("LettersRequest"),
        also: &[ErrorKind::BadRequest, ErrorKind::UnsupportedMediaType],
        ..connector(
            Verb::Post,
            "/_admin/connectors/dlq/replay/{provider}/{tenant}",
            "Try again the changes that were given up",
            "QueueReplayed",
        )
    },
    Route {
        access: Some(Access::Operate),
        body: Some("LettersRequest"),
        also: &[ErrorKind::BadRequest, ErrorKind::UnsupportedMediaType],
        ..connector(
            Verb::Post,
            "/_admin/connectors/dlq/clear/{provider}/{tenant}",
            "Forget the changes that were given up",
            "QueuePurged",
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
    open("/health", "Say that the process is alive", JSON_ANY),
    open("/readyz", "Say whether everything serves", JSON_ANY),
    open("/metrics", "Show metrics, as JSON unless Accept asks for text", JSON_ANY),
    open("/prometheus", "Show metrics in the exposition format", Answer::Text("text/plain")),
    open("/openapi.json", "Describe this API", JSON_ANY),
    open("/docs", "Show this API in a browser", HTML),
    open("/redoc", "Show this API in a browser", HTML),
    open("/demo", "Try it in a browser", HTML),
];
