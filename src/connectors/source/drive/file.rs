//! Files of a Drive.

use std::collections::BTreeMap;

use serde_json::Value;

use super::is_id;
use crate::connectors::source::{Found, rest};
use crate::graph::Object;

/// What addresses of files begin with.
pub(super) const SCHEME: &str = "drive://";
/// What is asked of a file.
pub(super) const FIELDS: &str =
    "id,name,mimeType,modifiedTime,version,size,md5Checksum,trashed,parents,webViewLink";
/// The type of folders.
pub(super) const FOLDER: &str = "application/vnd.google-apps.folder";
/// What types of Google's own begin with.
const GOOGLE: &str = "application/vnd.google-apps.";
/// What is asked for in place of such a type.
const EXPORTS: [(&str, &str); 3] = [
    ("application/vnd.google-apps.document", "text/html"),
    ("application/vnd.google-apps.spreadsheet", "text/csv"),
    ("application/vnd.google-apps.presentation", "text/plain"),
];

/// A file or a folder.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct File {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) trashed: bool,
    pub(super) parents: Vec<String>,
    modified: Option<String>,
    version: Option<String>,
    md5: Option<String>,
    size: Option<u64>,
    link: Option<String>,
}

impl File {
    pub(super) fn parse(file: &Value) -> Option<Self> {
        let text = |name: &str| match file.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let parents = file.get("parents").and_then(Value::as_array);
        let parents = parents.into_iter().flatten().filter_map(Value::as_str);
        Some(Self {
            id: text("id").filter(|id| is_id(id))?,
            name: text("name")?,
            kind: text("mimeType")?,
            trashed: file.get("trashed").and_then(Value::as_bool).unwrap_or(false),
            parents: parents.filter(|id| is_id(id)).map(str::to_owned).collect(),
            modified: text("modifiedTime"),
            version: text("version"),
            md5: text("md5Checksum"),
            size: text("size").and_then(|size| size.parse().ok()),
            link: text("webViewLink"),
        })
    }

    /// It as an object of the source.
    ///
    /// # Errors
    ///
    /// Why it has no content.
    pub(super) fn found(self, exports: &BTreeMap<String, String>) -> Result<Found, &'static str> {
        let Self { id, name, kind, trashed: _, parents: _, modified, version, md5, size, link } =
            self;
        let is_google = kind.starts_with(GOOGLE);
        let export = exported(&kind, exports);
        if is_google && export.is_none() {
            return Err("its type has no content that can be read");
        }
        let etag = md5.unwrap_or_else(|| {
            let or_none = |text: &Option<String>| text.clone().unwrap_or_default();
            format!("{}:{}", or_none(&modified), or_none(&version))
        });
        let mut props = Object::new();
        props.insert("file_id".to_owned(), id.as_str().into());
        props.insert("file_name".to_owned(), name.as_str().into());
        props.insert("web_view_link".to_owned(), link.into());
        props.insert("drive_mime_type".to_owned(), kind.as_str().into());
        Ok(Found {
            uri: format!("{SCHEME}{id}"),
            title: name,
            etag: Some(etag),
            generation: version,
            modified_at: modified.and_then(|at| rest::iso_date(&at)),
            // What it is exported to has another size.
            size: size.filter(|_| !is_google),
            content_type: Some(export.unwrap_or(kind)),
            props,
        })
    }
}

/// What a type is exported to; `None` for one that is read as it is, or not at all.
pub(super) fn exported(kind: &str, exports: &BTreeMap<String, String>) -> Option<String> {
    if !kind.starts_with(GOOGLE) {
        return None;
    }
    let usual = || EXPORTS.iter().find(|(from, _)| *from == kind).map(|(_, to)| (*to).to_owned());
    exports.get(kind).cloned().or_else(usual)
}
