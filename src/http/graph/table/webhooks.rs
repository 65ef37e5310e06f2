//! Routes for messages of sources.

use super::{optional, webhook, webhook_health};
use crate::http::rate_limit::Group;
use crate::http::routes::Route;

pub(super) const ROUTES: &[Route] = &[
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
];
