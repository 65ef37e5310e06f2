//! The tools of the Model Context Protocol. Each is a route of the graph without the way there:
//! it checks the same input, needs the same scope and counts as a request to it.

use std::time::Instant;

use axum::extract::{Path, State};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::access::Who;
use super::super::wire::ask::AskRequest;
use super::super::wire::node::NodeCreate;
use super::super::wire::query::TenantQuery;
use super::super::wire::search::SearchRequest;
use super::super::wire::walk::NeighborsQuery;
use super::super::{ask, nodes, search, walks};
use super::Session;
use crate::http::dialect;
use crate::http::error::ApiError;
use crate::http::extract::{Input, JsonBody, Params, Reply};
use crate::http::front::unix_now;
use crate::http::json;
use crate::http::rate_limit::{Group, Permit};
use crate::http::validate::{At, Checked, Item};

/// The tools as clients read of them.
const TOOLS: &str = include_str!("../../../../assets/mcp/tools.json");

/// The class of a node that names none.
const CLASS: &str = "Note";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    Search,
    Ask,
    Get,
    Add,
    Neighbors,
    Refresh,
}

impl Tool {
    const ALL: [(&str, Self); 6] = [
        ("search", Self::Search),
        ("ask", Self::Ask),
        ("get", Self::Get),
        ("add", Self::Add),
        ("neighbors", Self::Neighbors),
        ("refresh", Self::Refresh),
    ];

    /// What its uses are limited together with.
    fn group(self) -> Group {
        match self {
            Self::Search => Group::Search,
            Self::Ask => Group::Ask,
            Self::Get | Self::Add | Self::Neighbors | Self::Refresh => Group::Default,
        }
    }
}

/// The descriptions of the tools.
pub(super) fn list() -> Vec<Value> {
    serde_json::from_str(TOOLS).expect("the tools are compiled in, and a test reads them")
}

/// The names of the arguments of a tool.
fn arguments_of(name: &str) -> Vec<String> {
    let tool = list().into_iter().find(|tool| tool["name"] == name).unwrap_or_default();
    let known = tool["inputSchema"]["properties"].as_object();
    known.map(|known| known.keys().cloned().collect()).unwrap_or_default()
}

impl Session {
    /// Uses a tool. What the tool cannot do is a result too, for the model to read.
    ///
    /// # Errors
    ///
    /// When there is no such tool, or the parameters name none.
    pub(super) async fn call(&self, params: &Value, in_batch: bool) -> Result<Value, String> {
        let name = params["name"].as_str().ok_or("tools/call needs the name of a tool")?;
        let tool = Tool::ALL.into_iter().find(|(known, _)| *known == name);
        let (name, tool) = tool.ok_or_else(|| format!("Unknown tool: {name}"))?;
        let arguments = match &params["arguments"] {
            Value::Null => Map::new(),
            Value::Object(arguments) => arguments.clone(),
            _ => return Err("The arguments of a tool are an object".to_owned()),
        };
        let result = match check_names(name, &arguments) {
            Ok(()) => self.admitted(tool, arguments, in_batch).await,
            Err(error) => Err(error),
        };
        Ok(match result {
            Ok(value) => {
                let text = String::from_utf8_lossy(&json::to_vec(&value)).into_owned();
                let content = json!([{ "type": "text", "text": text }]);
                json!({ "content": content, "structuredContent": value, "isError": false })
            }
            Err(error) => {
                dialect::log(&error, &self.request_id, "/mcp");
                let text = dialect::sentence(&error, &self.request_id);
                json!({ "content": [{ "type": "text", "text": text }], "isError": true })
            }
        })
    }

    /// Uses a tool within the limits of its route.
    async fn admitted(
        &self,
        tool: Tool,
        arguments: Map<String, Value>,
        in_batch: bool,
    ) -> Result<Value, ApiError> {
        let _permit = self.permit(tool.group(), in_batch)?;
        self.run(tool, arguments).await
    }

    /// Counts a use of a tool. The request it came in has counted as one of the default group.
    fn permit(&self, group: Group, in_batch: bool) -> Result<Option<Permit>, ApiError> {
        let counted = group != Group::Default || in_batch;
        let Some(quota) = self.quota.as_ref().filter(|_| counted) else { return Ok(None) };
        let permit = quota.begin(group, Instant::now(), unix_now());
        permit.map(Some).map_err(|(limit, error)| {
            self.app.metrics.http.rate_limited("/mcp", limit);
            error
        })
    }

    async fn run(&self, tool: Tool, mut arguments: Map<String, Value>) -> Result<Value, ApiError> {
        let (app, who) = (State(self.app.clone()), Who(self.caller.clone()));
        let tenant_id = self.tenant.clone();
        let of_tenant = Params(TenantQuery { tenant_id: tenant_id.clone() });
        match tool {
            Tool::Search => {
                arguments.entry("mode").or_insert_with(|| "hybrid".into());
                let request = SearchRequest::parse(&arguments.into())?;
                let body = JsonBody(SearchRequest { tenant_id, ..request });
                value(search::search(app, who, body).await?)
            }
            Tool::Ask => {
                let request = AskRequest::parse(&arguments.into())?;
                let body = JsonBody(AskRequest { tenant_id, ..request });
                value(ask::ask(app, who, body).await?)
            }
            Tool::Get => {
                value(nodes::get(app, who, Path(id_in(&arguments.into())?), of_tenant).await?)
            }
            Tool::Add => {
                let node = new_node(&arguments.into())?;
                let body = JsonBody(NodeCreate { tenant_id, ..node });
                value(nodes::create(app, who, body).await?)
            }
            Tool::Neighbors => {
                let request = <NeighborsQuery as Input>::parse(&arguments.into())?;
                let query = Params(NeighborsQuery { tenant_id, ..request });
                value(walks::neighbors(app, who, query).await?)
            }
            Tool::Refresh => {
                value(nodes::refresh(app, who, Path(id_in(&arguments.into())?), of_tenant).await?)
            }
        }
    }
}

fn value<T: Serialize>(Reply(answer): Reply<T>) -> Result<Value, ApiError> {
    serde_json::to_value(answer).map_err(ApiError::unhandled)
}

/// Refuses arguments that the tool does not have: a model that makes one up should hear of it.
fn check_names(tool: &str, arguments: &Map<String, Value>) -> Result<(), ApiError> {
    let known = arguments_of(tool);
    let made_up = arguments.iter().filter(|(name, _)| !known.contains(name));
    let fault = |(name, value): (&String, &Value)| {
        let loc = vec!["arguments".into(), name.as_str().into()];
        Item::new("extra_forbidden", loc, "Extra inputs are not permitted", value.clone())
    };
    let faults: Vec<Item> = made_up.map(fault).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.into()) }
}

fn id_in(arguments: &Value) -> Checked<String> {
    let mut fields = At::body(arguments).fields()?;
    let id = fields.required("id", |at| at.string());
    fields.finish().map(|()| id)
}

/// A node of the arguments of `add`, which has its most used properties at hand.
fn new_node(arguments: &Value) -> Checked<NodeCreate> {
    let text = |at: At<'_>| at.string_of(1, usize::MAX);
    let mut fields = At::body(arguments).fields()?;
    let mut props = fields.optional("props", Map::new(), |at| at.object());
    let named = [
        ("text", Some(fields.required("text", text))),
        ("title", fields.nullable("title", text)),
        ("external_id", fields.nullable("external_id", text)),
    ];
    fields.finish()?;
    for (name, given) in named {
        props.extend(given.map(|given| (name.to_owned(), given.into())));
    }
    let mut node = json!({ "classes": [CLASS], "props": props });
    for name in ["classes", "metadata"] {
        if let Some(given) = arguments.get(name) {
            node[name] = given.clone();
        }
    }
    NodeCreate::parse(&node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_is_described_and_every_description_is_of_a_tool() {
        let described: Vec<Value> = list().iter().map(|tool| tool["name"].clone()).collect();
        assert_eq!(described, Tool::ALL.map(|(name, _)| json!(name)));
        for tool in list() {
            let schema = &tool["inputSchema"];
            assert_eq!(schema["additionalProperties"], false, "{tool}");
            assert!(tool["description"].is_string() && tool["annotations"].is_object(), "{tool}");
            let known = arguments_of(tool["name"].as_str().expect("a name"));
            for required in schema["required"].as_array().expect("a list") {
                assert!(known.iter().any(|name| required == name), "{tool}");
            }
        }
    }

    #[test]
    fn made_up_arguments_are_refused() {
        let arguments = json!({ "query": "x", "k": 3 });
        let refused = check_names("search", arguments.as_object().expect("an object"));
        let crate::http::error::Detail::Items(items) = refused.expect_err("k is none").detail
        else {
            panic!("faults expected");
        };
        assert_eq!(items[0].sentence(), "k: Extra inputs are not permitted");
        assert!(check_names("ask", &Map::new()).is_ok());
    }

    #[test]
    fn a_node_is_made_of_a_text() {
        let node =
            new_node(&json!({ "text": "Pump B.", "title": "Pumps", "props": { "site": "B" } }));
        let node = node.expect("a node");
        assert_eq!(node.classes, [CLASS]);
        let props = json!({ "site": "B", "text": "Pump B.", "title": "Pumps" });
        assert_eq!(Value::from(node.props), props);
        for bad in [
            json!({}),
            json!({ "text": "" }),
            json!({ "text": 1 }),
            json!({ "text": "x", "classes": [] }),
            json!({ "text": "x", "metadata": [] }),
            json!({ "text": "x", "props": "y" }),
        ] {
            assert!(new_node(&bad).is_err(), "{bad}");
        }
    }
}
