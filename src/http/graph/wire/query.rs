//! Query strings of the routes that read.

use serde_json::Value;

use super::tenant;
use crate::http::extract::Query;
use crate::http::validate::{At, Checked};

/// Rows of one page at most; more is read as this.
const PAGE_MAX: usize = 1000;
/// Steps of a lineage at most; more is read as this.
const DEPTH_MAX: i64 = 50;

/// Query of GET /nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// 0 to 1000, default 100.
    pub limit: usize,
    /// Nodes before the page; from `page`, counted from 1, if that is given.
    pub offset: usize,
    /// Only those with, or only those without a vector.
    pub has_embedding: Option<bool>,
    /// Classes of which a node has one; empty = any.
    pub classes: Vec<String>,
    /// Whether `include` asks for `props`.
    pub include_props: bool,
    /// The tenant it names.
    pub tenant_id: Option<String>,
}

impl Query for ListQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let words = |at: At<'_>| {
            let text = at.string()?;
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            Ok(words.map(str::to_owned).collect::<Vec<_>>())
        };
        let mut fields = At::query(query).fields()?;
        let limit = fields.optional("limit", 100, |at| at.count(PAGE_MAX));
        let offset = fields.optional("offset", 0, |at| at.count(usize::MAX));
        let has_embedding = fields.nullable("has_embedding", |at| at.bool());
        let tenant_id = fields.optional("tenant_id", None, tenant);
        let classes = fields.optional("classes", Vec::new(), words);
        let page = fields.nullable("page", |at| at.int_in(1, i64::MAX));
        let include = fields.optional("include", Vec::new(), words);
        fields.finish()?;
        let before = |page| usize::try_from(page - 1).unwrap_or(usize::MAX).saturating_mul(limit);
        Ok(Self {
            limit,
            offset: page.map_or(offset, before),
            has_embedding,
            classes,
            include_props: include.iter().any(|word| word == "props"),
            tenant_id,
        })
    }
}

/// Query of routes that take a tenant and nothing else, such as GET /nodes/{id}.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantQuery {
    /// The tenant it names.
    pub tenant_id: Option<String>,
}

impl Query for TenantQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let mut fields = At::query(query).fields()?;
        let tenant_id = fields.optional("tenant_id", None, tenant);
        fields.finish().map(|()| Self { tenant_id })
    }
}

/// Query of GET /nodes/by-external-id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalIdQuery {
    /// The caller's name for the node.
    pub external_id: String,
    /// The tenant it names.
    pub tenant_id: Option<String>,
}

impl Query for ExternalIdQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let mut fields = At::query(query).fields()?.with_null_for_missing();
        let external_id = fields.required("external_id", |at| at.string());
        let tenant_id = fields.optional("tenant_id", None, tenant);
        fields.finish().map(|()| Self { external_id, tenant_id })
    }
}

/// Query of DELETE /nodes/{id}.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteQuery {
    /// Whether nothing of the node stays.
    pub hard: bool,
    /// The tenant it names.
    pub tenant_id: Option<String>,
}

impl Query for DeleteQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let mut fields = At::query(query).fields()?;
        let hard = fields.optional("hard", false, |at| at.bool());
        let tenant_id = fields.optional("tenant_id", None, tenant);
        fields.finish().map(|()| Self { hard, tenant_id })
    }
}

/// Query of GET /nodes/{id}/versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionsQuery {
    /// 1 to 100, default 10; `None` when it is an integer outside, which is the route's own 400.
    pub limit: Option<usize>,
    /// The tenant it names.
    pub tenant_id: Option<String>,
}

impl Query for VersionsQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let mut fields = At::query(query).fields()?;
        let limit = fields.optional("limit", 10, |at| at.int());
        let tenant_id = fields.optional("tenant_id", None, tenant);
        fields.finish()?;
        let limit = usize::try_from(limit).ok().filter(|limit| (1..=100).contains(limit));
        Ok(Self { limit, tenant_id })
    }
}

/// Query of GET /lineage/{id}.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineageQuery {
    /// 1 to 50, whatever was asked; default 5.
    pub max_depth: u32,
    /// The tenant it names.
    pub tenant_id: Option<String>,
}

impl Query for LineageQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let mut fields = At::query(query).fields()?;
        let depth = fields.optional("max_depth", 5, |at| at.int()).clamp(1, DEPTH_MAX);
        let tenant_id = fields.optional("tenant_id", None, tenant);
        fields.finish()?;
        Ok(Self { max_depth: u32::try_from(depth).unwrap_or(1), tenant_id })
    }
}

/// Query of GET /events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsQuery {
    /// Only events of this node, as it was written; a malformed id has none.
    pub node_id: Option<String>,
    /// Only events of this type.
    pub event_type: Option<String>,
    /// 0 to 1000, default 100.
    pub limit: usize,
    /// The tenant it names.
    pub tenant_id: Option<String>,
}

impl Query for EventsQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let given = |at: At<'_>| at.string().map(|text| Some(text).filter(|text| !text.is_empty()));
        let mut fields = At::query(query).fields()?;
        let node_id = fields.optional("node_id", None, given);
        let event_type = fields.optional("event_type", None, given);
        let tenant_id = fields.optional("tenant_id", None, tenant);
        let limit = fields.optional("limit", 100, |at| at.count(PAGE_MAX));
        fields.finish().map(|()| Self { node_id, event_type, limit, tenant_id })
    }
}

/// Query of GET /admin/embedding/status: nothing, or a tenant. Without one it is all tenants.
pub type EmbeddingStatusQuery = TenantQuery;
