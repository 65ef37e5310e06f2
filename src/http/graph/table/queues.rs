//! Routes for who looks after the queues.

use super::{ANY_TENANT, JOB, OLDER_THAN, REASON, operate, optional};
use crate::http::routes::{Route, Verb};

pub(super) const ROUTES: &[Route] = &[
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
];
