//! The tables, a module an area. Each is declared once, with its key order and the scans it serves.

pub mod auth;
pub mod blobs;
pub mod connectors;
pub mod embedding;
pub mod graph;
pub mod models;
pub mod purge;
pub mod search;
pub mod webhooks;

use serde::{Deserialize, Serialize};

use crate::table::TableInfo;
use crate::{changes, migrate, open, queue};

/// The tables of every area, in the order they are copied, checked and repaired.
const AREAS: &[&[TableInfo]] = &[
    open::TABLES,
    migrate::TABLES,
    graph::TABLES,
    purge::TABLES,
    embedding::TABLES,
    models::TABLES,
    search::TABLES,
    connectors::TABLES,
    webhooks::TABLES,
    auth::TABLES,
    blobs::TABLES,
    changes::TABLES,
    queue::TABLES,
];

/// Every table there is. What is not among them is neither backed up nor checked, so a transaction
/// opens no other.
pub fn all() -> impl Iterator<Item = &'static TableInfo> {
    AREAS.iter().copied().flatten()
}

/// The declared table `name`.
pub(crate) fn find(name: &str) -> Option<&'static TableInfo> {
    all().find(|table| table.name == name)
}

/// A JSON document as text. Not checked here: whoever writes it has parsed it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(pub String);

impl Json {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// `{}`.
impl Default for Json {
    fn default() -> Json {
        Json("{}".to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Json {
        Json(text)
    }
}
