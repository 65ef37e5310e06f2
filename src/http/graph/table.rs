//! The routes of the graph surface.

mod administration;
mod connectors;
mod data;
mod queues;
mod service;
mod webhooks;

use std::sync::LazyLock;

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
pub static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    let parts = [
        data::ROUTES,
        administration::ROUTES,
        queues::ROUTES,
        connectors::ROUTES,
        webhooks::ROUTES,
        service::ROUTES,
    ];
    parts.concat()
});
