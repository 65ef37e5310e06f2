//! The tables, a module an area. Each is declared once, with its key order and the scans it serves.

pub mod graph;

use serde::{Deserialize, Serialize};

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
