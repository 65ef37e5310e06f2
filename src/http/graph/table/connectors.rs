//! Routes for the administrator of a tenant's connectors.

use super::{NAMED, OLDER_THAN, OWNER, REASON, connector, optional};
use crate::auth::Access;
use crate::http::error::ErrorKind;
use crate::http::routes::{Route, Verb};

pub(super) const ROUTES: &[Route] = &[
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
];
