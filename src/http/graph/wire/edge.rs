//! Edges, and what is asked along them: lineage and events.

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{is_blank, tenant};
use crate::http::extract::Input;
use crate::http::validate::{At, Checked};

/// Characters in an end or a relation at most.
const NAME_MAX: usize = 100;

/// Body of POST /edges.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeCreate {
    /// Where it starts.
    pub src: Uuid,
    /// What it means; not blank.
    pub rel: String,
    /// Where it ends.
    pub dst: Uuid,
    /// The caller's properties.
    pub props: Map<String, Value>,
    /// The tenant it names.
    pub tenant_id: Option<String>,
}

impl Input for EdgeCreate {
    fn parse(body: &Value) -> Checked<Self> {
        let at = At::body(body);
        let name = |at: At<'_>| at.string_of(1, NAME_MAX);
        let mut fields = at.fields()?;
        let src = fields.required("src", name);
        let dst = fields.required("dst", name);
        let rel = fields.required("rel", name);
        let props = fields.optional("props", Map::new(), |at| at.object());
        let tenant_id = fields.optional("tenant_id", None, tenant);
        fields.finish()?;

        // What the names mean counts only once all of them have their shape.
        let node = |text: &str| Uuid::try_parse(text.trim_matches(is_blank)).ok();
        let rel = rel.trim_matches(is_blank).to_owned();
        let mut faults = Vec::new();
        for (name, bad, message) in [
            ("src", node(&src).is_none(), "Node id must be a UUID"),
            ("dst", node(&dst).is_none(), "Node id must be a UUID"),
            ("rel", rel.is_empty(), "Relation cannot be empty"),
        ] {
            if bad && let Some(Err(found)) = at.member(name, |at| at.value_error::<()>(message)) {
                faults.extend(found);
            }
        }
        match (node(&src), node(&dst)) {
            (Some(src), Some(dst)) if faults.is_empty() => {
                Ok(Self { src, rel, dst, props, tenant_id })
            }
            _ => Err(faults),
        }
    }
}

/// Answer of POST /edges.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EdgeCreated {
    /// `created`.
    pub status: &'static str,
    /// Where it starts.
    pub src: Uuid,
    /// What it means.
    pub rel: String,
    /// Where it ends.
    pub dst: Uuid,
}

/// Answer of GET /lineage/{id}.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lineage {
    /// The node that was asked for, as it was written.
    pub node_id: String,
    /// Nearest first.
    pub ancestors: Vec<AncestorView>,
    /// How many ancestors, in spite of the name.
    pub depth: usize,
}

/// A node something came from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AncestorView {
    /// Its id.
    pub id: Uuid,
    /// Steps away, from 1.
    pub depth: u32,
    /// Properties of the edge that led to it.
    pub edge_props: Map<String, Value>,
    /// Labels.
    pub classes: Vec<String>,
    /// Its properties.
    pub props: Map<String, Value>,
    /// When it was created.
    pub created_at: String,
}

/// Answer of GET /events.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventList {
    /// Newest first.
    pub events: Vec<EventView>,
    /// How many.
    pub count: usize,
}

/// Something that happened to a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventView {
    /// Its id.
    pub id: Uuid,
    /// The node, if it was one.
    pub node_id: Option<Uuid>,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// The figures of it.
    pub payload: Map<String, Value>,
    /// When.
    pub created_at: String,
    /// Who caused it.
    pub actor_id: Option<String>,
    /// What kind of actor that is.
    pub actor_type: Option<String>,
}
