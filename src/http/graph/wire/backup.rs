//! Backups.

use serde_json::Value;

use crate::http::extract::Input;
use crate::http::validate::{At, Checked};

/// Characters of a path or an address at most.
const PLACE_MAX: usize = 4096;

/// Body of POST /admin/backup, which may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackupRequest {
    /// A folder or an address, instead of the usual one.
    pub to: Option<String>,
}

impl Input for BackupRequest {
    fn parse(body: &Value) -> Checked<Self> {
        if body.is_null() {
            return Ok(Self::default());
        }
        let mut fields = At::body(body).fields()?;
        let to = fields.nullable("to", |at| at.string_of(1, PLACE_MAX));
        fields.finish()?;
        Ok(Self { to })
    }
}
