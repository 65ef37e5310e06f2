//! Routes over the data of a tenant.

use super::{CLASSES, DIRECTION, NODE, RELATIONS, TENANT, data, optional, required};
use crate::auth::Access;
use crate::http::error::ErrorKind;
use crate::http::rate_limit::Group;
use crate::http::routes::{Answer, Parameter, Route, Verb};

pub(super) const ROUTES: &[Route] = &[
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
];
